//! Storage for values that stay where they are, in blocks that are given back when they are empty.
//!
//! Growing copies no value, so that no caller waits for a big copy, and removing moves none. The place that was freed last
//! is used next, because it is most likely in the processor's cache.

use std::ops::{Index, IndexMut};

/// Values in one block. Fewer would waste more on bookkeeping; with more, a few values that stay would hold more memory.
const BLOCK: usize = 128;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Arena<T> {
    blocks: Vec<Block<T>>,
    /// Blocks that have memory and a vacant place; the last one is used next.
    open: Vec<u32>,
    /// Blocks without memory.
    bare: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Block<T> {
    slots: Vec<Slot<T>>,
    /// The first of the vacant slots, each of which knows the next.
    vacant: u32,
    used: u32,
    /// Where it is among the open ones, unless it is full or bare.
    open: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: u32 },
    Used(T),
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new(), open: Vec::new(), bare: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a value and answers its index, which is its own until it is removed.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = match self.open.last() {
            Some(&number) => number,
            None => self.open_one(),
        };
        let block = &mut self.blocks[number as usize];
        let offset = match block.vacant {
            NONE => {
                block.slots.push(Slot::Used(value));
                block.slots.len() - 1
            }
            offset => {
                let slot = &mut block.slots[offset as usize];
                if let Slot::Vacant { next } = std::mem::replace(slot, Slot::Used(value)) {
                    block.vacant = next;
                }
                offset as usize
            }
        };
        block.used += 1;
        if block.used as usize == BLOCK {
            block.open = NONE;
            self.open.pop();
        }
        self.len += 1;
        // The limits of the manager are `u32`, so that an index always fits.
        number * BLOCK as u32 + offset as u32
    }

    fn open_one(&mut self) -> u32 {
        let number = self.bare.pop().unwrap_or_else(|| {
            self.blocks.push(Block { slots: Vec::new(), vacant: NONE, used: 0, open: NONE });
            self.blocks.len() as u32 - 1
        });
        let block = &mut self.blocks[number as usize];
        block.slots = Vec::with_capacity(BLOCK);
        block.open = 0;
        self.open.push(number);
        number
    }

    /// Takes out the value at `index`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let (number, offset) = place(index);
        let block = &mut self.blocks[number];
        let vacated = Slot::Vacant { next: block.vacant };
        let Slot::Used(value) = std::mem::replace(&mut block.slots[offset], vacated) else {
            panic!("a value was removed twice")
        };
        block.vacant = offset as u32;
        block.used -= 1;
        self.len -= 1;
        if block.open == NONE {
            block.open = self.open.len() as u32;
            self.open.push(number as u32);
        }
        // One spare block stays, or a table that goes to and fro over a boundary would allocate each time.
        if block.used == 0 && self.open.len() > 1 {
            self.close(number);
        }
        value
    }

    /// Gives the memory of an empty block back.
    fn close(&mut self, number: usize) {
        let block = &mut self.blocks[number];
        let at = std::mem::replace(&mut block.open, NONE) as usize;
        block.slots = Vec::new();
        block.vacant = NONE;
        self.open.swap_remove(at);
        if let Some(&moved) = self.open.get(at) {
            self.blocks[moved as usize].open = at as u32;
        }
        self.bare.push(number as u32);
        if self.len == 0 {
            *self = Self::new();
        }
    }

    /// All values, in no order that would mean anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.blocks.iter().enumerate().flat_map(|(number, block)| {
            block.slots.iter().enumerate().filter_map(move |(offset, slot)| match slot {
                Slot::Used(value) => Some(((number * BLOCK + offset) as u32, value)),
                Slot::Vacant { .. } => None,
            })
        })
    }

    /// The value at `index`, which may be of a time when something else was there, or nothing.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (number, offset) = place(index);
        match self.blocks.get(number)?.slots.get(offset)? {
            Slot::Used(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }
}

const fn place(index: u32) -> (usize, usize) {
    (index as usize / BLOCK, index as usize % BLOCK)
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let (number, offset) = place(index);
        match &self.blocks[number].slots[offset] {
            Slot::Used(value) => value,
            Slot::Vacant { .. } => panic!("a link to a value that was removed"),
        }
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (number, offset) = place(index);
        match &mut self.blocks[number].slots[offset] {
            Slot::Used(value) => value,
            Slot::Vacant { .. } => panic!("a link to a value that was removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_are_given_back() {
        let mut arena = Arena::new();
        let indexes: Vec<_> = (0..10 * BLOCK).map(|value| arena.insert(value)).collect();
        let in_use =
            |arena: &Arena<usize>| arena.blocks.iter().filter(|block| block.slots.capacity() > 0).count();
        assert_eq!(in_use(&arena), 10);
        for &index in &indexes[3..] {
            arena.remove(index);
        }
        // The one that is left, and a spare one.
        assert!(in_use(&arena) <= 2);
        assert_eq!(arena[indexes[2]], 2);
        for &index in &indexes[..3] {
            arena.remove(index);
        }
        assert!(arena.blocks.capacity() == 0 || in_use(&arena) == 1);
        assert_eq!(arena.len(), 0);
        assert!(arena.get(indexes[2]).is_none());
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_in(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..2000)) {
            let (mut arena, mut model) = (Arena::new(), HashMap::new());
            for (number, (insert, which)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    prop_assert_eq!(model.insert(arena.insert(number), number), None);
                } else {
                    let index = *which.get(&model.keys().copied().collect::<Vec<_>>());
                    prop_assert_eq!(Some(arena.remove(index)), model.remove(&index));
                    prop_assert!(arena.get(index).is_none());
                }
                prop_assert_eq!(arena.len(), model.len());
            }
            for (index, number) in model {
                prop_assert_eq!(arena[index], number);
            }
        }
    }
}
