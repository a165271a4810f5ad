use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::panics;
use crate::task::{Scope, TaskRecord};

/// How many changes wait for a slow subscriber before the oldest are lost to it, and how many wait while a subscriber's
/// waker blocks the thread that sends them.
pub(super) const CAPACITY: usize = 1024;

/// What is sent to the subscribers of all scopes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Updated(Arc<TaskRecord>),
    /// So many changes were not kept, because there was no room.
    LeftOut(u64),
}

/// The changes that are not sent yet, in their order.
///
/// A thread sends them, and wakers of subscribers run on it, which may block. So the queue is bounded: beyond
/// [`CAPACITY`] changes are only counted.
#[derive(Debug, Default)]
pub(super) struct ChangeQueue(VecDeque<Change>);

impl ChangeQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, record: &TaskRecord) {
        if self.0.len() < CAPACITY {
            self.0.push_back(Change::Updated(Arc::new(record.clone())));
        } else if let Some(Change::LeftOut(count)) = self.0.back_mut() {
            *count += 1;
        } else {
            self.0.push_back(Change::LeftOut(1));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Change> {
        self.0.pop_front()
    }
}

/// What a [`TaskChanges`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskChange {
    /// A task of the scope was admitted, was asked to stop, or ended; this is how it is now.
    Updated(TaskRecord),
    /// This subscriber lost at least so many changes, of tasks of any scope: it was too slow, or the waker of a
    /// subscriber blocked the thread that sends the changes. Read the tasks again.
    Lagged(u64),
}

/// The changes of the tasks of one scope, from the moment of the subscription on.
///
/// To miss nothing, subscribe first and read the tasks then. Dropping it ends it.
#[derive(Debug)]
pub struct TaskChanges {
    scope: Scope,
    changes: broadcast::Receiver<Change>,
}

impl TaskChanges {
    pub(super) const fn new(scope: Scope, changes: broadcast::Receiver<Change>) -> Self {
        Self { scope, changes }
    }

    /// The next change; `None` when the manager and all its tasks are gone. Nothing is lost when the returned
    /// future is dropped.
    pub async fn recv(&mut self) -> Option<TaskChange> {
        panics::with_quiet_waker(self.next()).await
    }

    async fn next(&mut self) -> Option<TaskChange> {
        loop {
            match self.changes.recv().await {
                Ok(Change::Updated(record)) if self.scope.contains(&record.meta) => {
                    return Some(TaskChange::Updated(Arc::unwrap_or_clone(record)));
                }
                Ok(Change::Updated(_)) => {}
                Ok(Change::LeftOut(lost)) | Err(broadcast::error::RecvError::Lagged(lost)) => {
                    return Some(TaskChange::Lagged(lost));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
