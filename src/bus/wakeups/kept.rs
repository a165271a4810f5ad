use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::message::Wakeup;
use super::super::trouble::after;

/// The wakeups that cannot be handed out now, by session, and when to look at each session again.
///
/// A session whose wakeup was just handed out is in here too, with nothing that waits: until its runner has had the
/// time to take the run lock, the next wakeup must not overtake the first one.
#[derive(Debug)]
pub(super) struct Kept {
    sessions: HashMap<Arc<str>, Session>,
    by_due: BTreeSet<(Instant, Arc<str>)>,
    /// Wakeups over all sessions.
    waiting: usize,
    max: usize,
    first: Duration,
    longest: Duration,
}

#[derive(Debug)]
struct Session {
    waiting: VecDeque<Wakeup>,
    /// How many at the front were handed out before and came back.
    returned: usize,
    /// The last pause, zero when it was not postponed.
    pause: Duration,
    /// When to look again, or with nothing that waits: when to forget the session.
    due: Instant,
}

impl Kept {
    pub(super) fn new(max: usize, first: Duration, longest: Duration) -> Self {
        Self { sessions: HashMap::new(), by_due: BTreeSet::new(), waiting: 0, max, first, longest }
    }

    /// How many more wakeups may be kept.
    pub(super) const fn room(&self) -> usize {
        self.max.saturating_sub(self.waiting)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// A session that is due, if there is one.
    pub(super) fn due(&mut self, now: Instant) -> Option<Arc<str>> {
        while let Some((due, session)) = self.by_due.first() {
            if *due > now {
                return None;
            }
            let session = Arc::clone(session);
            if self.sessions.get(&session).is_some_and(|kept| !kept.waiting.is_empty()) {
                return Some(session);
            }
            self.by_due.pop_first();
            self.sessions.remove(&session);
        }
        None
    }

    /// Whether a wakeup of this session has to wait like those before it.
    pub(super) fn knows(&self, session_id: &str) -> bool {
        self.sessions.contains_key(session_id)
    }

    /// Whether one that is the same waits already: then a second one says nothing new.
    pub(super) fn has_same(&self, wakeup: &Wakeup) -> bool {
        let same = |kept: &Session| wakeup.is_plain() && kept.waiting.contains(wakeup);
        self.sessions.get(&*wakeup.session_id).is_some_and(same)
    }

    /// Keeps a wakeup behind those that its session has.
    pub(super) fn add(&mut self, wakeup: Wakeup) {
        let first = after(self.first);
        let (session, kept) = self.session(&wakeup.session_id);
        if kept.waiting.is_empty() {
            kept.pause = Duration::ZERO;
            let due = kept.due.min(first);
            self.set_due(&session, due);
        }
        if let Some(kept) = self.sessions.get_mut(&session) {
            kept.waiting.push_back(wakeup);
            self.waiting += 1;
        }
    }

    /// Keeps a wakeup of a session that is busy.
    pub(super) fn add_busy(&mut self, wakeup: Wakeup) {
        let session = Arc::from(wakeup.session_id.as_str());
        self.add(wakeup);
        self.postpone(&session);
    }

    /// Keeps a wakeup that was handed out and comes back, before those that came after it.
    pub(super) fn add_returned(&mut self, wakeup: Wakeup) {
        let (session, kept) = self.session(&wakeup.session_id);
        if !(wakeup.is_plain() && kept.waiting.contains(&wakeup)) {
            kept.waiting.insert(kept.returned, wakeup);
            kept.returned += 1;
            self.waiting += 1;
        }
        self.postpone(&session);
    }

    /// The session is still busy.
    pub(super) fn postpone(&mut self, session: &Arc<str>) {
        let Some(kept) = self.sessions.get_mut(session) else { return };
        kept.pause = kept.pause.saturating_mul(2).clamp(self.first, self.longest);
        let due = after(kept.pause);
        self.set_due(session, due);
    }

    /// The session is free: its first wakeup.
    pub(super) fn release(&mut self, session: &Arc<str>) -> Option<Wakeup> {
        let kept = self.sessions.get_mut(session)?;
        let wakeup = kept.waiting.pop_front()?;
        self.waiting -= 1;
        match kept.returned.checked_sub(1) {
            Some(left) => kept.returned = left,
            None => kept.pause = Duration::ZERO,
        }
        // One that came back once may do so again, and then its pauses go on growing: they are remembered for longer
        // than they can last.
        let due = match kept.waiting.is_empty() {
            true if !kept.pause.is_zero() => after(self.longest.saturating_mul(2)),
            _ => after(self.first),
        };
        self.set_due(session, due);
        Some(wakeup)
    }

    /// A wakeup of a session that nothing is known of was handed out.
    pub(super) fn handed_out(&mut self, session_id: &str) {
        let (session, _) = self.session(session_id);
        let due = after(self.first);
        self.set_due(&session, due);
    }

    /// All that waits, each session's in order. Nothing is known of any session afterwards.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Wakeup> + use<> {
        self.by_due.clear();
        self.waiting = 0;
        std::mem::take(&mut self.sessions).into_values().flat_map(|session| session.waiting)
    }

    fn session(&mut self, session_id: &str) -> (Arc<str>, &mut Session) {
        let session = match self.sessions.get_key_value(session_id) {
            Some((session, _)) => Arc::clone(session),
            None => Arc::from(session_id),
        };
        let by_due = &mut self.by_due;
        let kept = self.sessions.entry(Arc::clone(&session)).or_insert_with(|| {
            let due = after(self.first);
            by_due.insert((due, Arc::clone(&session)));
            Session { waiting: VecDeque::new(), returned: 0, pause: Duration::ZERO, due }
        });
        (session, kept)
    }

    fn set_due(&mut self, session: &Arc<str>, due: Instant) {
        let Some(kept) = self.sessions.get_mut(session) else { return };
        self.by_due.remove(&(kept.due, Arc::clone(session)));
        kept.due = due;
        self.by_due.insert((due, Arc::clone(session)));
    }
}
