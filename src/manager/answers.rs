//! What the manager answers.

use crate::task::TaskRecord;

/// Any error, as deliveries answer it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a stop request found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopOutcome {
    /// The task runs here and was asked to stop, now or before. It is `cancelled` when its future is gone;
    /// [`TaskManager::wait`](super::TaskManager::wait) waits for that.
    Requested,
    /// Another process runs the task, and was asked over the bus to stop it.
    RequestedElsewhere,
    /// The task had ended; its record is unchanged.
    AlreadyFinished(TaskRecord),
    /// There is no such task in the scope.
    NotFound,
}

/// How the future of a task ended.
///
/// The [`TaskRecord`] that comes with it has the verdict: what was `Returned` may still count as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended<T> {
    /// It returned a value.
    Returned(T),
    /// It panicked; the record has the message.
    Panicked,
    /// It was dropped at the run-time limit.
    TimedOut,
    /// It was dropped because the task was asked to stop.
    Cancelled,
}

impl<T> Ended<T> {
    /// The value, if there is one.
    pub fn returned(self) -> Option<T> {
        match self {
            Self::Returned(value) => Some(value),
            _ => None,
        }
    }
}
