//! The streams of one kind.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{Entry, EntryId};
use super::table::Table;

/// What a stream is used as. A queue and a log of one name are two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    Log,
    /// The part of one user, or of the program, in the queue of wakeups. The key names the user.
    Wakeups,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: EntryId,
    pub(super) payload: Box<str>,
}

impl From<&Stored> for Entry {
    fn from(stored: &Stored) -> Self {
        Self { id: stored.id, payload: stored.payload.to_string() }
    }
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        Self { id: stored.id, payload: stored.payload.into() }
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) entries: VecDeque<Stored>,
    pub(super) holder: Arc<str>,
}

impl Stream {
    /// How many entries it has, and the id of the first.
    pub(super) fn first(&self) -> Option<(usize, EntryId)> {
        self.entries.front().map(|entry| (self.entries.len(), entry.id))
    }
}

/// All streams of one kind, and what they add up to. A stream without entries does not exist.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) table: Table<Stream>,
    pub(super) entries: usize,
    pub(super) bytes: usize,
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
        self.table.get(key).map(|stream| &stream.entries)
    }
}
