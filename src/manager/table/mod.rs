//! The records of this process and their indexes, all behind one mutex.
//!
//! One dense arena of entries, linked by index into a list for each user, for each session, and by the time of
//! their end. Every operation costs in proportion to what it touches, however many tasks there are.
//!
//! No user code runs in here, wakers included: whatever tells somebody something is handed out, to be used when the
//! lock is gone.

mod arena;
mod ending;
mod list;
mod retention;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::arena::Arena;
pub(super) use self::ending::Stopping;
use self::list::{Kind, Linked, Links, List, UNLINKED};
use super::Refused;
use super::limits::Limits;
use super::stats::Counters;
use crate::task::{Scope, TaskId, TaskRecord, TaskResult};

/// Who asked a task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    Request,
    RunTime,
    Shutdown,
}

/// Where the end of a task is told: `None` until then, and for good if it never ran.
type Ended = watch::Sender<Option<TaskRecord>>;

#[derive(Debug)]
pub(super) struct Entry {
    record: TaskRecord,
    links: Links,
    /// While it runs.
    control: Option<Control>,
    /// When it ended, in milliseconds of the manager's clock; for the time limit of the retention.
    ended_at: u64,
    result: Option<TaskResult>,
}

#[derive(Debug)]
struct Control {
    token: CancellationToken,
    cause: Option<StopCause>,
    /// Made by the first who waits for it.
    ended: Option<Arc<Ended>>,
}

impl Linked for Entry {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[derive(Debug)]
struct User {
    all: List,
    done: List,
    results: List,
    result_bytes: usize,
}

impl User {
    const fn new() -> Self {
        Self { all: List::new(), done: List::new(), results: List::new(), result_bytes: 0 }
    }

    const fn running(&self) -> u32 {
        self.all.len() - self.done.len()
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Arena<Entry>,
    by_id: HashMap<TaskId, u32>,
    users: HashMap<Arc<str>, User>,
    sessions: HashMap<Arc<str>, List>,
    done: List,
    result_bytes: usize,
    /// Changes that have not been told yet, in their order.
    pub(super) changes: VecDeque<Arc<TaskRecord>>,
    /// Ended tasks whose result is being delivered.
    pub(super) delivering: usize,
    pub(super) counters: Counters,
    /// No more admissions.
    pub(super) closed: bool,
    /// A janitor is on its way to drop what the time limit ends.
    pub(super) janitor: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: Arena::new(),
            by_id: HashMap::new(),
            users: HashMap::new(),
            sessions: HashMap::new(),
            done: List::new(),
            result_bytes: 0,
            changes: VecDeque::new(),
            delivering: 0,
            counters: Counters::default(),
            closed: false,
            janitor: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.entries.len() - self.retained()
    }

    pub(super) const fn retained(&self) -> usize {
        self.done.len() as usize
    }

    pub(super) const fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Whether a task of this user may start now.
    pub(super) fn check_admission(&self, limits: &Limits, user_id: &str) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::ShuttingDown);
        }
        // Deliveries count too: while they cannot be made, what waits for them must not grow for ever.
        if self.running() + self.delivering >= limits.max_running as usize {
            return Err(Refused::TooManyRunning);
        }
        let of_user = self.users.get(user_id).map_or(0, User::running);
        if of_user >= limits.max_running_per_user {
            return Err(Refused::TooManyRunningForUser);
        }
        Ok(())
    }

    /// Adds a running task. A fresh random id never meets another one.
    pub(super) fn insert(&mut self, record: TaskRecord, token: CancellationToken) {
        let (id, user_id, session_id) =
            (record.id, Arc::clone(&record.meta.user_id), Arc::clone(&record.meta.session_id));
        let control = Some(Control { token, cause: None, ended: None });
        let index = self.entries.push(Entry { record, links: UNLINKED, control, ended_at: 0, result: None });
        self.by_id.insert(id, index);
        let user = self.users.entry(user_id).or_insert_with(User::new);
        user.all.push_back(&mut self.entries, Kind::User, index);
        let session = self.sessions.entry(session_id).or_insert_with(List::new);
        session.push_back(&mut self.entries, Kind::Session, index);
    }

    /// Takes a task out that never ran: its admission was given back. Dropping the answer tells who waits for it.
    pub(super) fn roll_back(&mut self, id: TaskId) -> Option<Entry> {
        let index = *self.by_id.get(&id)?;
        Some(self.remove(index))
    }

    fn find(&self, scope: &Scope, id: TaskId) -> Option<u32> {
        let index = *self.by_id.get(&id)?;
        scope.contains(&self.entries[index].record.meta).then_some(index)
    }

    pub(super) fn get(&self, scope: &Scope, id: TaskId) -> Option<&TaskRecord> {
        self.find(scope, id).map(|index| &self.entries[index].record)
    }

    pub(super) fn result(&self, scope: &Scope, id: TaskId) -> Option<&TaskResult> {
        self.find(scope, id).and_then(|index| self.entries[index].result.as_ref())
    }

    /// The last record of a task, or where it will be told.
    pub(super) fn watch(
        &mut self,
        scope: &Scope,
        id: TaskId,
    ) -> Option<Result<TaskRecord, watch::Receiver<Option<TaskRecord>>>> {
        let index = self.find(scope, id)?;
        let entry = &mut self.entries[index];
        Some(match &mut entry.control {
            Some(control) => Err(control.ended.get_or_insert_with(|| Arc::new(Ended::new(None))).subscribe()),
            None => Ok(entry.record.clone()),
        })
    }

    /// The tasks of a scope in order of registration; walks the shorter of the lists that hold them all.
    fn iter<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (u32, &'a Entry)> {
        const EMPTY: &List = &List::new();
        let user = scope.user_id().map(|id| self.users.get(id).map_or(EMPTY, |user| &user.all));
        let session = scope.session_id().map(|id| self.sessions.get(id).unwrap_or(EMPTY));
        let (list, kind) = match (user, session) {
            (Some(user), Some(session)) if session.len() < user.len() => (session, Kind::Session),
            (Some(user), _) => (user, Kind::User),
            (None, Some(session)) => (session, Kind::Session),
            // A scope names a user or a session.
            (None, None) => (EMPTY, Kind::User),
        };
        list.iter(&self.entries, kind).filter(|(_, entry)| scope.contains(&entry.record.meta))
    }

    pub(super) fn list<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a TaskRecord> {
        self.iter(scope).map(|(_, entry)| &entry.record)
    }

    /// Unlinks an entry from everything.
    fn remove(&mut self, index: u32) -> Entry {
        self.forget_result(index);
        let entry = &self.entries[index];
        let (id, done) = (entry.record.id, entry.control.is_none());
        let (user_id, session_id) =
            (Arc::clone(&entry.record.meta.user_id), Arc::clone(&entry.record.meta.session_id));
        if done {
            self.done.unlink(&mut self.entries, Kind::Done, index);
        }
        if let Some(user) = self.users.get_mut(&user_id) {
            if done {
                user.done.unlink(&mut self.entries, Kind::UserDone, index);
            }
            user.all.unlink(&mut self.entries, Kind::User, index);
            if user.all.len() == 0 {
                self.users.remove(&user_id);
            }
        }
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.unlink(&mut self.entries, Kind::Session, index);
            if session.len() == 0 {
                self.sessions.remove(&session_id);
            }
        }
        self.by_id.remove(&id);
        let (entry, moved) = self.entries.swap_remove(index);
        if moved.is_some() {
            self.moved(index);
        }
        shrink(&mut self.by_id);
        shrink(&mut self.users);
        shrink(&mut self.sessions);
        entry
    }

    /// The entry that was the last one is now at `index`: tells everybody who points at it.
    fn moved(&mut self, index: u32) {
        let entry = &self.entries[index];
        let (id, done, result) = (entry.record.id, entry.control.is_none(), entry.result.is_some());
        let (user_id, session_id) =
            (Arc::clone(&entry.record.meta.user_id), Arc::clone(&entry.record.meta.session_id));
        self.by_id.insert(id, index);
        if done {
            self.done.moved(&mut self.entries, Kind::Done, index);
        }
        if let Some(user) = self.users.get_mut(&user_id) {
            user.all.moved(&mut self.entries, Kind::User, index);
            if done {
                user.done.moved(&mut self.entries, Kind::UserDone, index);
            }
            if result {
                user.results.moved(&mut self.entries, Kind::Results, index);
            }
        }
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.moved(&mut self.entries, Kind::Session, index);
        }
    }
}

/// Gives memory back when a map is far too large for what is in it.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 64 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}
