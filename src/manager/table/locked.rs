//! The lock of the table, and what waits for its end.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Table;
use super::entry::Kept;
use crate::task::{TaskMeta, TaskResult};

/// What is dropped when the lock is gone. Mostly it is one thing at the most, which needs no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Trash {
    first: Option<Thrown>,
    #[expect(clippy::box_collection, reason = "nearly always empty, and looked at each time")]
    more: Option<Box<Vec<Thrown>>>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "kept to be dropped")]
pub(super) enum Thrown {
    Task(TaskMeta, Option<Box<Kept>>),
    Result(TaskResult),
}

impl Trash {
    pub(super) fn push(&mut self, thrown: Thrown) {
        match &mut self.first {
            first @ None => *first = Some(thrown),
            Some(_) => self.more.get_or_insert_default().push(thrown),
        }
    }
}

/// The table, locked.
pub(in crate::manager) struct Locked<'a> {
    // In this order: what is dropped is dropped without the lock.
    table: MutexGuard<'a, Table>,
    trash: Trash,
}

impl<'a> Locked<'a> {
    pub(in crate::manager) fn new(table: &'a Mutex<Table>) -> Self {
        // Nothing that could panic half way runs under the lock, so a poisoned one holds a sound table.
        Self { table: table.lock().unwrap_or_else(PoisonError::into_inner), trash: Trash::default() }
    }
}

impl Deref for Locked<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let trash = &mut self.table.trash;
        if trash.first.is_some() {
            self.trash = Trash { first: trash.first.take(), more: trash.more.take() };
        }
    }
}
