//! Dense storage: the values of `0..len`, without holes, in blocks that are given back as the table shrinks.
//!
//! Removing moves the last value into the gap, so that a table that once held a million tasks and now holds fifty
//! takes the room of fifty. Whoever points at a value by its index is told of the move.

use std::ops::{Index, IndexMut};

/// Values in one block. Growing never copies what is there, so that no caller waits for a big copy.
const BLOCK: usize = 256;

#[derive(Debug)]
pub(super) struct Arena<T> {
    /// All blocks but the last are full; there is no empty one but, maybe, a spare at the end.
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds at the end and answers the index.
    pub(super) fn push(&mut self, value: T) -> u32 {
        let (block, _) = place(self.len);
        if block == self.blocks.len() {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[block].push(value);
        self.len += 1;
        // The limits of the manager are `u32`, so that an index always fits.
        (self.len - 1) as u32
    }

    /// Takes out the value at `index`. If the answer's second half is an index, the value that was there is now at
    /// `index`.
    pub(super) fn swap_remove(&mut self, index: u32) -> (T, Option<u32>) {
        self.len -= 1;
        let (block, offset) = place(self.len);
        let last = self.blocks[block].swap_remove(offset);
        // One spare block stays, or a table that goes to and fro over a boundary would allocate each time.
        self.blocks.truncate(block + 2);
        if self.len == 0 {
            self.blocks = Vec::new();
        }
        if index as usize == self.len {
            return (last, None);
        }
        (std::mem::replace(&mut self[index], last), Some(self.len as u32))
    }
}

const fn place(index: usize) -> (usize, usize) {
    (index / BLOCK, index % BLOCK)
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let (block, offset) = place(index as usize);
        &self.blocks[block][offset]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (block, offset) = place(index as usize);
        &mut self.blocks[block][offset]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_keeps_it_dense_and_gives_blocks_back() {
        let mut arena = Arena::new();
        for value in 0..10 * BLOCK {
            assert_eq!(arena.push(value), value as u32);
        }
        assert_eq!(arena.swap_remove(3), (3, Some(10 * BLOCK as u32 - 1)));
        assert_eq!(arena[3], 10 * BLOCK - 1);
        while arena.len() > 5 {
            arena.swap_remove(0);
        }
        assert!(arena.blocks.len() <= 2);
        let last = arena.len() as u32 - 1;
        assert_eq!(arena.swap_remove(last).1, None);
        while arena.len() > 0 {
            arena.swap_remove(0);
        }
        assert_eq!(arena.blocks.capacity(), 0);
    }
}
