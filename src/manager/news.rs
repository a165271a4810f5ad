//! The one step that tells what has changed.
//!
//! Every transition has the same shape: with the table locked it changes the state and notes its [`News`]; then it
//! releases the lock; then [`Shared::tell`] tells the news. Telling runs user code (wakers, recorders, `tracing`
//! subscribers), which may panic, block, or call the manager: by then the state is safe and no lock is held.

use std::sync::TryLockError;

use super::changes::Change;
use super::shared::Shared;
use super::table::{Ending, Table};
use crate::panics;
use crate::task::{FailureReason, TaskRecord};
use crate::telemetry;

/// What a transition has to tell when the lock is gone.
#[derive(Debug, Default)]
#[must_use = "news that is not told leaves others waiting"]
pub(super) struct News {
    /// A task has ended, for every reader.
    pub(super) ending: Option<Ending>,
    /// Records that have passed their time are to be dropped when nothing reads them.
    pub(super) start_janitor: bool,
    /// Nothing is active any more, and a shutdown waits for that.
    pub(super) is_over: bool,
    /// There is something to write for other processes.
    pub(super) to_write: bool,
}

impl News {
    /// A running task has changed. If `to_write`, the mirror has the change.
    pub(super) fn of_change(to_write: bool) -> Self {
        Self { to_write, ..Self::default() }
    }
}

impl Shared {
    /// Whether a subscriber or another process wants to know of changes.
    pub(super) fn is_watched(&self) -> bool {
        self.mirror.is_some() || self.has_subscribers()
    }

    fn has_subscribers(&self) -> bool {
        self.changes.get().is_some_and(|changes| changes.receiver_count() > 0)
    }

    /// Notes a change for subscribers, with the table locked so that changes keep their order.
    pub(super) fn announce(&self, table: &mut Table, record: &TaskRecord) {
        if self.has_subscribers() {
            table.changes.push(record);
        }
    }

    /// Passes on what a transition has noted. A panic in one part does not keep the others from it.
    pub(super) fn tell(&self, news: &News) {
        if news.is_over {
            // A shutdown waits with a waker that does not panic.
            self.idle.notify_waiters();
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|_| news.to_write) {
            self.keeper.start();
            mirror.wake_keeper();
        }
        if news.start_janitor {
            self.janitor.start();
        }
        self.tell_changes();
        if let Some(ending) = &news.ending {
            ending.tell_waiters();
            telemetry::settled(ending.record.status);
            panics::quietly(|| log(&ending.record));
        }
    }

    /// Sends the changes that were noted. Subscribers wait with wakers that do not panic, but a waker may do anything
    /// else, such as call back into here: so no thread waits for another one, and the thread that sends already sends
    /// these too.
    pub(super) fn tell_changes(&self) {
        let Some(changes) = self.changes.get() else { return };
        while self.has_changes() {
            let _telling = match self.telling.try_lock() {
                Ok(telling) => telling,
                Err(TryLockError::Poisoned(telling)) => telling.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(change) = self.next_change() {
                // An error says that the last receiver has just gone.
                let _ = changes.send(change);
            }
        }
    }

    fn has_changes(&self) -> bool {
        !self.table().changes.is_empty()
    }

    fn next_change(&self) -> Option<Change> {
        self.table().changes.pop()
    }
}

/// Logs the end that all readers see.
fn log(record: &TaskRecord) {
    tracing::info!(
        task_id = %record.id,
        status = record.status.as_str(),
        reason = record.failure_reason.as_ref().map(FailureReason::as_str),
        error = record.error_summary.as_deref(),
        "background task ended"
    );
}
