use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Shrink;

/// A map whose keys can expire.
///
/// The keys that will expire are also kept in the order in which they do, so that those that are due are found
/// without looking at any other: the memory of a key comes back without another access to it.
#[derive(Debug)]
pub(super) struct Table<V> {
    slots: HashMap<Arc<str>, Slot<V>>,
    deadlines: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    deadline: Option<Instant>,
}

// Derived, it would ask for `V: Default`.
impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { slots: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<V> Table<V> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.slots.get_mut(key).map(|slot| &mut slot.value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.values_mut().map(|slot| &mut slot.value)
    }

    /// Adds a key that never expires, in place of what was there.
    pub(super) fn insert(&mut self, key: Arc<str>, value: V) -> &mut V {
        self.remove(&key);
        &mut self.slots.entry(key).insert_entry(Slot { value, deadline: None }).into_mut().value
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let (key, slot) = self.slots.remove_entry(key)?;
        if let Some(deadline) = slot.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        self.slots.shrink_if_sparse();
        Some(slot.value)
    }

    /// Makes `key` live for `ttl` from `now`; a moment too far away to be expressed means for good.
    pub(super) fn expire_in(&mut self, key: &str, now: Instant, ttl: Duration) {
        let Some((key, slot)) = self.slots.get_key_value(key) else { return };
        let (key, old, new) = (Arc::clone(key), slot.deadline, now.checked_add(ttl));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.deadline = new;
        }
        if let Some(old) = old {
            self.deadlines.remove(&(old, Arc::clone(&key)));
        }
        if let Some(new) = new {
            self.deadlines.insert((new, key));
        }
    }

    /// Makes `key` live for at least `ttl` from `now`.
    pub(super) fn prolong(&mut self, key: &str, now: Instant, ttl: Duration) {
        let deadline = self.slots.get(key).and_then(|slot| slot.deadline);
        if deadline.is_some_and(|deadline| now.checked_add(ttl).is_none_or(|at| deadline < at)) {
            self.expire_in(key, now, ttl);
        }
    }

    /// The key that is due for longest, if one is.
    pub(super) fn due(&self, now: Instant) -> Option<Arc<str>> {
        let (deadline, key) = self.deadlines.first()?;
        (*deadline <= now).then(|| Arc::clone(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn due(table: &mut Table<u8>, now: Instant) -> Vec<String> {
        let mut keys = Vec::new();
        while let Some(key) = table.due(now) {
            table.remove(&key).unwrap();
            keys.push(key.to_string());
        }
        keys
    }

    #[test]
    fn keys_expire_in_order_and_only_once() {
        let now = Instant::now();
        let mut table = Table::default();
        for (key, ttl) in [("b", 2), ("a", 1), ("c", 3), ("also b", 2)] {
            table.insert(key.into(), 0);
            table.expire_in(key, now, SECOND * ttl);
        }
        table.insert("never".into(), 0);
        assert!(due(&mut table, now).is_empty());
        assert_eq!(due(&mut table, now + SECOND * 2), ["a", "also b", "b"]);
        assert_eq!(due(&mut table, now + SECOND * 9), ["c"]);
        assert_eq!((table.len(), table.deadlines.len()), (1, 0));
    }

    #[test]
    fn a_new_deadline_replaces_the_old_one() {
        let now = Instant::now();
        let mut table = Table::default();
        table.insert("k".into(), 0);
        table.expire_in("k", now, SECOND);
        table.expire_in("k", now, SECOND * 5);
        assert!(due(&mut table, now + SECOND * 4).is_empty());
        table.expire_in("k", now, Duration::MAX);
        assert!(due(&mut table, now + SECOND * 1_000_000).is_empty());
        table.expire_in("k", now, Duration::ZERO);
        assert_eq!(due(&mut table, now), ["k"]);
    }

    #[test]
    fn a_key_that_comes_back_does_not_inherit_a_deadline() {
        let now = Instant::now();
        let mut table = Table::default();
        table.insert("k".into(), 0);
        table.expire_in("k", now, SECOND);
        table.insert("k".into(), 1);
        assert!(due(&mut table, now + SECOND).is_empty());
        assert_eq!(table.get("k"), Some(&1));
        table.expire_in("other", now, SECOND);
        assert_eq!(table.deadlines.len(), 0);
    }
}
