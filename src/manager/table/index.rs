//! Finds the values of an arena by the hash of their key, in a few bytes for each.
//!
//! Many small maps instead of one: a map copies itself when it grows, with the table locked, and a small one is done
//! in microseconds. Each value is kept with a part of its hash, so that growing need not look at the values.

use hashbrown::HashTable;

/// With a million values a map that grows copies four thousand, which takes some tens of microseconds.
const SHARDS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Empty until the first value comes.
    shards: Box<[HashTable<Item>]>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    tag: u32,
    index: u32,
}

impl Item {
    const fn hash(&self) -> u64 {
        spread(self.tag)
    }
}

/// The map looks at the first bits of a hash and at the last ones.
const fn spread(tag: u32) -> u64 {
    (tag as u64) << 32 | tag as u64
}

/// Which map, and which part of the hash is kept.
const fn split(hash: u64) -> (usize, u32) {
    ((hash >> 32) as usize % SHARDS, hash as u32)
}

impl Index {
    /// The value of this hash that `is_it` agrees to.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (shard, tag) = split(hash);
        let found = self.shards.get(shard)?.find(spread(tag), |item| item.tag == tag && is_it(item.index))?;
        Some(found.index)
    }

    /// Adds a value that is not there.
    pub(super) fn insert(&mut self, hash: u64, index: u32) {
        let (shard, tag) = split(hash);
        if self.shards.is_empty() {
            self.shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        }
        self.shards[shard].insert_unique(spread(tag), Item { tag, index }, Item::hash);
    }

    /// Removes a value that is there.
    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let (shard, tag) = split(hash);
        let Some(shard) = self.shards.get_mut(shard) else { return };
        if let Ok(found) = shard.find_entry(spread(tag), |item| item.index == index) {
            found.remove();
        }
        // Gives memory back when there is far too much.
        if shard.capacity() > 16 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(shard.len() * 2, Item::hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_hash_are_told_apart_and_memory_is_given_back() {
        let mut index = Index::default();
        assert_eq!(index.find(7, |_| true), None);
        for value in 0..1000 {
            index.insert(7, value);
        }
        assert_eq!(index.find(7, |value| value == 500), Some(500));
        assert_eq!(index.find(8, |_| true), None);
        // The same part that is kept, another map.
        assert_eq!(index.find(7 | 1 << 32, |_| true), None);
        for value in 1..1000 {
            index.remove(7, value);
        }
        assert_eq!(index.find(7, |_| true), Some(0));
        assert!(index.shards.iter().map(HashTable::capacity).sum::<usize>() < 32);
    }
}
