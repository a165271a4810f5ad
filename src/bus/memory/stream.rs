use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::super::{BusError, Entry, EntryId, Result};
use super::limits::{Limits, Shrink, item_cost, key_cost};
use super::table::Table;

/// What a stream serves as. A queue and a log of one name are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    Log,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: EntryId,
    pub(super) payload: Box<str>,
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        Self { id: stored.id, payload: stored.payload.into() }
    }
}

/// All streams of one kind, and what they add up to. A stream without entries does not exist.
#[derive(Debug, Default)]
pub(super) struct Side {
    table: Table<VecDeque<Stored>>,
    entries: usize,
    bytes: usize,
}

impl Side {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, key: &str) -> Option<&VecDeque<Stored>> {
        self.table.get(key)
    }
}

/// The entries of queues and logs, which share one limit of bytes.
#[derive(Debug)]
pub(super) struct Streams {
    limits: Limits,
    queues: Side,
    logs: Side,
    /// The first entry of each stream, and whose it is. Ids grow over all streams, so that the oldest entry of
    /// all is the first one here, and no entry but the front of a stream costs anything.
    fronts: BTreeMap<EntryId, (Kind, Arc<str>)>,
    last_id: EntryId,
    dropped: u64,
}

impl Streams {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: Side::default(),
            logs: Side::default(),
            fronts: BTreeMap::new(),
            last_id: EntryId { millis: 0, sequence: 0 },
            dropped: 0,
        }
    }

    pub(super) const fn side(&self, kind: Kind) -> &Side {
        match kind {
            Kind::Queue => &self.queues,
            Kind::Log => &self.logs,
        }
    }

    const fn side_mut(&mut self, kind: Kind) -> &mut Side {
        match kind {
            Kind::Queue => &mut self.queues,
            Kind::Log => &mut self.logs,
        }
    }

    /// How many entries were dropped because of a limit.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) const fn bytes(&self) -> usize {
        self.queues.bytes + self.logs.bytes
    }

    /// The bytes that a new stream with this one entry takes.
    pub(super) const fn cost(key: &str, payload: &str) -> usize {
        key_cost(key) + item_cost(payload.len())
    }

    /// Whether entries of `cost` bytes could be kept if everything else were dropped for them.
    pub(super) fn admit(&self, cost: usize) -> Result<()> {
        let max = self.limits.stored_bytes;
        if cost > max {
            let reason = format!("{cost} bytes do not fit into the {max} bytes for all queues and logs");
            return Err(BusError::new("store an entry", reason));
        }
        Ok(())
    }

    /// Adds an entry that was admitted, and drops the oldest ones for which there is no room any more.
    pub(super) fn push(&mut self, kind: Kind, key: &str, payload: &str) -> EntryId {
        let id = next_id(self.last_id, wall_clock());
        self.last_id = id;

        let side = match kind {
            Kind::Queue => &mut self.queues,
            Kind::Log => &mut self.logs,
        };
        let stream = match side.table.get_mut(key) {
            Some(stream) => stream,
            None => {
                let key: Arc<str> = key.into();
                side.bytes += key_cost(&key);
                self.fronts.insert(id, (kind, Arc::clone(&key)));
                side.table.insert(key, VecDeque::new())
            }
        };
        stream.push_back(Stored { id, payload: payload.into() });
        side.entries += 1;
        side.bytes += item_cost(payload.len());

        let most = match kind {
            Kind::Queue => self.limits.queue_entries,
            Kind::Log => self.limits.log_entries,
        };
        let excess = stream.len().saturating_sub(most);
        self.drop_oldest(kind, key, excess);
        while self.bytes() > self.limits.stored_bytes {
            let Some((_, (kind, key))) = self.fronts.first_key_value() else { break };
            let (kind, key) = (*kind, Arc::clone(key));
            self.drop_oldest(kind, &key, 1);
        }
        id
    }

    fn drop_oldest(&mut self, kind: Kind, key: &str, count: usize) {
        self.cut(kind, key, count, |_| ());
        self.dropped += count as u64;
    }

    /// Takes `count` entries, or as many as there are, off the front of a stream.
    pub(super) fn cut(&mut self, kind: Kind, key: &str, count: usize, mut sink: impl FnMut(Stored)) {
        let side = self.side_mut(kind);
        let Some(stream) = side.table.get_mut(key) else { return };
        let count = count.min(stream.len());
        let (Some(front), true) = (stream.front().map(|entry| entry.id), count > 0) else { return };

        for entry in stream.drain(..count) {
            side.bytes -= item_cost(entry.payload.len());
            sink(entry);
        }
        stream.shrink_if_sparse();
        side.entries -= count;
        let next = stream.front().map(|entry| entry.id);
        if next.is_none() {
            side.bytes -= key_cost(key);
            side.table.remove(key);
        }
        let owner = self.fronts.remove(&front);
        if let (Some(next), Some(owner)) = (next, owner) {
            self.fronts.insert(next, owner);
        }
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
        for kind in [Kind::Queue, Kind::Log] {
            while let Some(key) = self.side(kind).table.due(now) {
                self.remove(kind, &key);
            }
        }
    }
}

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
            let kind = if n % 3 == 0 { Kind::Log } else { Kind::Queue };
            streams.push(kind, &format!("k{}", n % 7), &"x".repeat(n % 90));
            assert!(streams.bytes() <= 4_000);
            assert_eq!(streams.fronts.len(), streams.queues.len() + streams.logs.len());
        }
        let kept = streams.queues.entries + streams.logs.entries;
        assert_eq!(streams.dropped + kept as u64, 1_000);
        for n in 0..7 {
            streams.remove(Kind::Queue, &format!("k{n}"));
            streams.remove(Kind::Log, &format!("k{n}"));
        }
        assert_eq!((streams.bytes(), streams.queues.entries, streams.logs.entries), (0, 0, 0));
        assert!(streams.fronts.is_empty());
    }
}
