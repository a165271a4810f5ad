use std::sync::Arc;

use tokio::sync::broadcast;

use crate::panics;
use crate::task::{Scope, TaskRecord};

/// How many changes wait for a slow subscriber before the oldest are lost to it.
pub(super) const CAPACITY: usize = 1024;

/// What a [`TaskChanges`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskChange {
    /// A task of the scope was admitted, was asked to stop, or ended; this is how it is now.
    Updated(TaskRecord),
    /// This subscriber was too slow and lost so many changes, of whatever scope. Read the tasks again.
    Lagged(u64),
}

/// The changes of the tasks of one scope, from the moment of the subscription on.
///
/// To miss nothing, subscribe first and read the tasks then. Dropping it ends it.
#[derive(Debug)]
pub struct TaskChanges {
    scope: Scope,
    changes: broadcast::Receiver<Arc<TaskRecord>>,
}

impl TaskChanges {
    pub(super) const fn new(scope: Scope, changes: broadcast::Receiver<Arc<TaskRecord>>) -> Self {
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
                Ok(record) if self.scope.contains(&record.meta) => {
                    return Some(TaskChange::Updated(Arc::unwrap_or_clone(record)));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => return Some(TaskChange::Lagged(lost)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
