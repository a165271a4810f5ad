use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem::size_of;

use super::super::{BusError, Result};

/// What the bus may keep. Set by [`MemoryBusBuilder`](super::MemoryBusBuilder).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) queue_entries: usize,
    pub(super) log_entries: usize,
    pub(super) stored_bytes: usize,
    pub(super) registry_bytes: usize,
    pub(super) subscriber_capacity: usize,
    pub(super) deliveries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_entries: 65_536,
            log_entries: 1_024,
            stored_bytes: 64 << 20,
            registry_bytes: 16 << 20,
            subscriber_capacity: 1_024,
            deliveries: 65_536,
        }
    }
}

/// What a key costs beside its own bytes: its share of a hash table, of the index by time and of the index by
/// age, and the smallest allocation of what it names. Measured, and rounded up: without it a client that sends
/// nothing but short new session ids would use many times the limit.
const KEY_OVERHEAD: usize = 384;

/// What an entry or a field costs beside its own bytes, with the spare room of what holds it.
const ITEM_OVERHEAD: usize = 128;

pub(super) const fn key_cost(key: &str) -> usize {
    KEY_OVERHEAD + key.len()
}

pub(super) const fn item_cost(texts: usize) -> usize {
    ITEM_OVERHEAD + texts
}

/// The bytes of registry, locks and directory. What does not fit is refused, and how much room is missing is noted, so
/// that some can be made.
#[derive(Debug)]
pub(super) struct Budget {
    used: usize,
    max: usize,
    missing: usize,
}

impl Budget {
    pub(super) const fn new(max: usize) -> Self {
        Self { used: 0, max, missing: 0 }
    }

    /// Frees `old` bytes and takes `new` ones, or changes nothing.
    pub(super) fn exchange(&mut self, operation: &'static str, old: usize, new: usize) -> Result<()> {
        let used = self.used.saturating_sub(old).saturating_add(new);
        if used > self.max {
            self.missing = used - self.max;
            let reason = format!(
                "{new} bytes more do not fit: {} of {} bytes for registry and locks are in use",
                self.used, self.max
            );
            return Err(BusError::new(operation, reason));
        }
        self.used = used;
        Ok(())
    }

    pub(super) const fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// How many bytes too many the last refusal was about, once. `None` when nothing was refused, or if all the room
    /// there is would not be enough.
    pub(super) fn take_missing(&mut self) -> Option<usize> {
        let missing = std::mem::take(&mut self.missing);
        (missing > 0 && missing <= self.used).then_some(missing)
    }

    pub(super) const fn used(&self) -> usize {
        self.used
    }
}

/// A collection that was large once must not stay so for good: its spare room is in no account.
pub(super) trait Shrink {
    fn shrink_if_sparse(&mut self);
}

/// Below this there is nothing to gain.
const SPARE_BYTES: usize = 4_096;

impl<K: Eq + Hash, V> Shrink for HashMap<K, V> {
    fn shrink_if_sparse(&mut self) {
        // An eighth, then twice the length: the next shrink or growth is at least as many operations away.
        if self.len() * 8 < self.capacity() && self.capacity() * size_of::<(K, V)>() > SPARE_BYTES {
            self.shrink_to(self.len() * 2);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if self.len() * 8 < self.capacity() && self.capacity() * size_of::<T>() > SPARE_BYTES {
            self.shrink_to(self.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exact_and_a_refusal_changes_nothing() {
        let mut budget = Budget::new(10);
        budget.exchange("write", 0, 10).unwrap();
        assert!(budget.exchange("write", 0, 1).is_err());
        assert!(budget.exchange("write", 5, 6).is_err());
        assert_eq!(budget.used(), 10);
        budget.exchange("write", 6, 5).unwrap();
        assert_eq!(budget.used(), 9);
        assert!(budget.exchange("write", 0, usize::MAX).is_err());
        budget.give_back(100);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn spare_room_is_given_back() {
        let mut map: HashMap<usize, usize> = (0..10_000).map(|n| (n, n)).collect();
        let mut queue: VecDeque<usize> = (0..10_000).collect();
        map.retain(|n, _| *n < 10);
        queue.truncate(10);
        map.shrink_if_sparse();
        queue.shrink_if_sparse();
        assert!(map.capacity() < 100 && queue.capacity() < 100);
        assert!(map.len() == 10 && queue.len() == 10);
    }
}
