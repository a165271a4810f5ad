use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::super::{BusError, EntryId, Result};
use super::limits::{Limits, Shrink, item_cost, key_cost};
pub(super) use super::side::Kind;
use super::side::{Side, Stored, Stream};
use super::wakeups::Users;

/// Whose entries a stream holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holder<'a> {
    /// The results of a user, as [`deliver`](super::super::MessageBus::deliver) says.
    User(&'a str),
    /// What the bus does not know to be of one user.
    Program,
}

/// What one holder has.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// The first entry of each of its streams, and which stream that is. Ids grow over all streams, so that the oldest
    /// entry of the holder is the first one here, and no entry but the front of a stream costs anything.
    fronts: BTreeMap<EntryId, (Kind, Arc<str>)>,
}

/// The entries of queues and logs, which share one limit of bytes. At the limit the holder that has most gives way, so
/// that no user can crowd out another one.
#[derive(Debug)]
pub(super) struct Streams {
    limits: Limits,
    queues: Side,
    logs: Side,
    wakeups: Side,
    pub(super) wakeups_of: Users,
    shares: HashMap<Arc<str>, Share>,
    by_size: BTreeSet<(usize, Arc<str>)>,
    last_id: EntryId,
    dropped: u64,
    refused: u64,
}

impl Streams {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: Side::default(),
            logs: Side::default(),
            wakeups: Side::default(),
            wakeups_of: Users::default(),
            shares: HashMap::new(),
            by_size: BTreeSet::new(),
            last_id: EntryId { millis: 0, sequence: 0 },
            dropped: 0,
            refused: 0,
        }
    }

    pub(super) const fn side(&self, kind: Kind) -> &Side {
        match kind {
            Kind::Queue => &self.queues,
            Kind::Log => &self.logs,
            Kind::Wakeups => &self.wakeups,
        }
    }

    const fn side_mut(&mut self, kind: Kind) -> &mut Side {
        match kind {
            Kind::Queue => &mut self.queues,
            Kind::Log => &mut self.logs,
            Kind::Wakeups => &mut self.wakeups,
        }
    }

    /// How many entries were dropped because of a limit.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many entries were refused because they would not fit even alone.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) const fn bytes(&self) -> usize {
        self.queues.bytes + self.logs.bytes + self.wakeups.bytes
    }

    /// The bytes that a new stream with this one entry takes.
    pub(super) const fn cost(key: &str, payload: &str) -> usize {
        key_cost(key) + item_cost(payload.len())
    }

    /// Whether entries of `cost` bytes could be kept if everything else were dropped for them.
    pub(super) fn admit(&mut self, cost: usize) -> Result<()> {
        let max = self.limits.stored_bytes;
        if cost > max {
            self.refused += 1;
            let reason = format!("{cost} bytes do not fit into the {max} bytes for all queues and logs");
            return Err(BusError::new("store an entry", reason));
        }
        Ok(())
    }

    /// Adds an entry that was admitted, and drops others for which there is no room any more.
    pub(super) fn push(&mut self, kind: Kind, holder: Holder<'_>, key: &str, payload: &str) -> EntryId {
        let id = self.add(kind, holder, key, payload);
        self.make_room(id);
        id
    }

    /// Adds an entry of several that were admitted together. [`make_room`](Self::make_room) follows.
    pub(super) fn add(&mut self, kind: Kind, holder: Holder<'_>, key: &str, payload: &str) -> EntryId {
        let id = next_id(self.last_id, wall_clock());
        self.last_id = id;

        let side = self.side_mut(kind);
        let mut cost = item_cost(payload.len());
        let mut is_new = None;
        let stream = match side.table.get_mut(key) {
            Some(stream) => stream,
            None => {
                cost += key_cost(key);
                let key: Arc<str> = key.into();
                is_new = Some(Arc::clone(&key));
                let holder = match holder {
                    Holder::User(user) => user.into(),
                    Holder::Program => PROGRAM.into(),
                };
                side.table.insert(key, Stream { entries: VecDeque::new(), holder })
            }
        };
        let before = stream.first();
        stream.entries.push_back(Stored { id, payload: payload.into() });
        let (now, len, holder) = (stream.first(), stream.entries.len(), Arc::clone(&stream.holder));
        side.entries += 1;
        side.bytes += cost;
        self.account(&holder, |share| {
            share.bytes += cost;
            if let Some(key) = is_new {
                share.fronts.insert(id, (kind, key));
            }
        });

        match kind {
            Kind::Queue => self.drop_oldest(kind, key, len.saturating_sub(self.limits.queue_entries)),
            Kind::Log => self.drop_oldest(kind, key, len.saturating_sub(self.limits.log_entries)),
            Kind::Wakeups => {
                self.wakeups_of.update(&holder, before, now);
                if self.wakeups.entries > self.limits.queue_entries
                    && let Some(largest) = self.wakeups_of.largest()
                {
                    self.drop_oldest(kind, &largest, 1);
                }
            }
        }
        id
    }

    /// Drops entries until the others fit: the oldest of the holder that has most, and of the next one, but none from
    /// `since` on.
    pub(super) fn make_room(&mut self, since: EntryId) {
        while self.bytes() > self.limits.stored_bytes {
            let oldest = self.by_size.iter().rev().find_map(|(_, holder)| {
                let (id, stream) = self.shares.get(holder)?.fronts.first_key_value()?;
                (*id < since).then(|| stream.clone())
            });
            let Some((kind, key)) = oldest else { break };
            self.drop_oldest(kind, &key, 1);
        }
    }

    fn account(&mut self, holder: &Arc<str>, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(Arc::clone(holder)).or_default();
        let before = share.bytes;
        change(share);
        let after = share.bytes;
        self.by_size.remove(&(before, Arc::clone(holder)));
        if after == 0 {
            self.shares.remove(holder);
            self.shares.shrink_if_sparse();
        } else {
            self.by_size.insert((after, Arc::clone(holder)));
        }
    }

    fn drop_oldest(&mut self, kind: Kind, key: &str, count: usize) {
        self.cut(kind, key, count, |_| ());
        self.dropped += count as u64;
    }

    /// Takes `count` entries, or as many as there are, off the front of a stream.
    pub(super) fn cut(&mut self, kind: Kind, key: &str, count: usize, mut sink: impl FnMut(Stored)) {
        let side = self.side_mut(kind);
        let Some(stream) = side.table.get_mut(key) else { return };
        let before = stream.first();
        let count = count.min(stream.entries.len());
        let (Some(front), true) = (stream.entries.front().map(|entry| entry.id), count > 0) else { return };

        let mut freed = 0;
        for entry in stream.entries.drain(..count) {
            freed += item_cost(entry.payload.len());
            sink(entry);
        }
        stream.entries.shrink_if_sparse();
        let now = stream.first();
        let next = now.map(|(_, id)| id);
        let holder = Arc::clone(&stream.holder);
        if next.is_none() {
            freed += key_cost(key);
            side.table.remove(key);
        }
        side.entries -= count;
        side.bytes -= freed;
        if kind == Kind::Wakeups {
            self.wakeups_of.update(&holder, before, now);
        }
        self.account(&holder, |share| {
            share.bytes -= freed;
            if let (Some(stream), Some(next)) = (share.fronts.remove(&front), next) {
                share.fronts.insert(next, stream);
            }
        });
    }

    pub(super) fn remove(&mut self, kind: Kind, key: &str) {
        self.cut(kind, key, usize::MAX, |_| ());
    }

    pub(super) fn expire_in(&mut self, kind: Kind, key: &str, now: Instant, ttl: Option<Duration>) {
        if let Some(ttl) = ttl {
            self.side_mut(kind).table.expire_in(key, now, ttl);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for kind in [Kind::Queue, Kind::Log, Kind::Wakeups] {
            while let Some(key) = self.side(kind).table.due(now) {
                self.remove(kind, &key);
            }
        }
    }
}

/// The holder of entries that are of no user. A user whose id is this text shares the room of the program, and gains none.
pub(super) const PROGRAM: &str = "";

fn wall_clock() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// An id after `last`. One row for all keys: a queue that was drained, and so forgotten, goes on growing.
fn next_id(last: EntryId, now: u64) -> EntryId {
    if now > last.millis {
        return EntryId { millis: now, sequence: 0 };
    }
    match last.sequence.checked_add(1) {
        Some(sequence) => EntryId { millis: last.millis, sequence },
        None => EntryId { millis: last.millis.saturating_add(1), sequence: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut last = EntryId { millis: 0, sequence: 0 };
        for now in [0, 0, 5, 5, 4, 0, 6, 6, u64::MAX, 0] {
            let id = next_id(last, now);
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        let last = EntryId { millis: 7, sequence: u64::MAX };
        assert_eq!(next_id(last, 3), EntryId { millis: 8, sequence: 0 });
    }

    #[test]
    fn accounts_end_at_zero() {
        let mut streams = Streams::new(Limits { queue_entries: 3, stored_bytes: 4_000, ..Limits::default() });
        for n in 0..1_000 {
            let kind = [Kind::Log, Kind::Queue, Kind::Wakeups][n % 3];
            let user = format!("u{}", n % 4);
            let holder = if n % 5 == 0 { Holder::Program } else { Holder::User(&user) };
            let key = if kind == Kind::Wakeups { user.clone() } else { format!("k{}", n % 7) };
            let holder = if kind == Kind::Wakeups { Holder::User(&user) } else { holder };
            streams.push(kind, holder, &key, &"x".repeat(n % 90));
            assert!(streams.bytes() <= 4_000);
            let fronts: usize = streams.shares.values().map(|share| share.fronts.len()).sum();
            assert_eq!(fronts, streams.queues.len() + streams.logs.len() + streams.wakeups.len());
            assert!(streams.wakeups.entries() <= 3);
            assert_eq!(streams.shares.values().map(|share| share.bytes).sum::<usize>(), streams.bytes());
            assert_eq!(streams.by_size.len(), streams.shares.len());
        }
        let kept = streams.queues.entries + streams.logs.entries + streams.wakeups.entries;
        assert_eq!(streams.dropped + kept as u64, 1_000);
        for n in 0..7 {
            streams.remove(Kind::Queue, &format!("k{n}"));
            streams.remove(Kind::Log, &format!("k{n}"));
        }
        assert_eq!(streams.drain_wakeups(usize::MAX).len(), 3);
        assert!(streams.wakeups_of.largest().is_none());
        assert_eq!((streams.bytes(), streams.queues.entries, streams.logs.entries), (0, 0, 0));
        assert!(streams.shares.is_empty() && streams.by_size.is_empty());
    }
}
