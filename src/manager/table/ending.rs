//! How a task comes to its end: it is asked to stop, and it settles once.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::{Ended, Limits, StopCause, Table};
use crate::manager::StopOutcome;
use crate::task::{FailureReason, Outcome, Scope, Settlement, TaskId, TaskRecord, TaskStatus};

/// A stop request that was noted. The token is cancelled when the lock is gone.
#[derive(Debug)]
pub(in crate::manager) struct Stopping {
    pub(in crate::manager) record: TaskRecord,
    pub(in crate::manager) token: CancellationToken,
    /// Nobody had asked before.
    pub(in crate::manager) first: bool,
}

/// A task that has just ended. It is told when the lock is gone.
#[derive(Debug)]
pub(in crate::manager) struct Ending {
    pub(in crate::manager) record: TaskRecord,
    waiting: Option<Arc<Ended>>,
}

impl Ending {
    /// Tells whoever waits for the end.
    pub(in crate::manager) fn tell(self) -> TaskRecord {
        if let Some(waiting) = self.waiting {
            waiting.send_replace(Some(self.record.clone()));
        }
        self.record
    }
}

impl Table {
    /// Notes a stop request.
    pub(in crate::manager) fn request_stop(
        &mut self,
        scope: &Scope,
        id: TaskId,
        now: SystemTime,
    ) -> (StopOutcome, Option<Stopping>) {
        let Some(index) = self.find(scope, id) else { return (StopOutcome::NotFound, None) };
        match self.stop_at(index, StopCause::Request, now) {
            Some(stopping) => (StopOutcome::Requested, Some(stopping)),
            None => (StopOutcome::AlreadyFinished(self.entries[index].record.clone()), None),
        }
    }

    /// The same for every running task of a scope.
    pub(in crate::manager) fn request_stop_all(&mut self, scope: &Scope, now: SystemTime) -> Vec<Stopping> {
        let running: Vec<u32> =
            self.iter(scope).filter(|(_, entry)| entry.control.is_some()).map(|(index, _)| index).collect();
        running.into_iter().filter_map(|index| self.stop_at(index, StopCause::Request, now)).collect()
    }

    /// The same for every running task there is.
    pub(in crate::manager) fn request_shutdown(&mut self, now: SystemTime) -> Vec<Stopping> {
        (0..self.entries.len() as u32)
            .filter_map(|index| self.stop_at(index, StopCause::Shutdown, now))
            .collect()
    }

    /// The same for a task that has run for as long as it may.
    pub(in crate::manager) fn reach_limit(&mut self, id: TaskId, now: SystemTime) -> Option<Stopping> {
        let index = *self.by_id.get(&id)?;
        self.stop_at(index, StopCause::RunTime, now)
    }

    /// `None`: it has ended. The first cause and time are the ones that count.
    fn stop_at(&mut self, index: u32, cause: StopCause, now: SystemTime) -> Option<Stopping> {
        let entry = &mut self.entries[index];
        let control = entry.control.as_mut()?;
        let first = control.cause.is_none();
        if first {
            control.cause = Some(cause);
            entry.record.cancel_requested_at = Some(now.max(entry.record.started_at));
        }
        Some(Stopping { record: entry.record.clone(), token: control.token.clone(), first })
    }

    /// The record as it is when the task begins to run.
    pub(in crate::manager) fn start(&mut self, id: TaskId) -> Option<TaskRecord> {
        let index = *self.by_id.get(&id)?;
        self.counters.admitted += 1;
        Some(self.entries[index].record.clone())
    }

    /// The one transition out of `running`. Of several, the first counts; `None` for the others.
    pub(in crate::manager) fn settle(
        &mut self,
        limits: &Limits,
        id: TaskId,
        settlement: Settlement,
        now: SystemTime,
        clock: u64,
    ) -> Option<Ending> {
        let index = self.by_id.get(&id).copied();
        let Some((index, control)) = index.and_then(|i| Some((i, self.entries[i].control.take()?))) else {
            self.counters.late += 1;
            return None;
        };
        let Settlement { outcome, result } = settlement;
        let (status, reason, error) = verdict(outcome, control.cause);
        self.counters.settled(status);
        let entry = &mut self.entries[index];
        entry.ended_at = clock;
        let record = &mut entry.record;
        record.status = status;
        record.failure_reason = reason;
        record.error_summary = error.map(Arc::from);
        record.completed_at = Some(now.max(record.started_at));
        let record = record.clone();
        if let Some(result) = result {
            self.store_result(limits, index, result);
        }
        self.retire(limits, index);
        Some(Ending { record, waiting: control.ended })
    }

    /// Takes over how others have ended a task. The answer is for the one that still runs.
    pub(in crate::manager) fn adopt(
        &mut self,
        limits: &Limits,
        found: &TaskRecord,
        clock: u64,
    ) -> Option<(Ending, CancellationToken)> {
        let index = *self.by_id.get(&found.id)?;
        let entry = &mut self.entries[index];
        let record = &mut entry.record;
        record.status = found.status;
        record.failure_reason = found.failure_reason;
        record.error_summary.clone_from(&found.error_summary);
        record.completed_at = found.completed_at;
        let Some(control) = entry.control.take() else {
            self.counters.late += 1;
            return None;
        };
        entry.ended_at = clock;
        let record = record.clone();
        self.counters.settled(record.status);
        self.retire(limits, index);
        Some((Ending { record, waiting: control.ended }, control.token))
    }
}

/// What a record says about an outcome.
fn verdict(
    outcome: Outcome,
    cause: Option<StopCause>,
) -> (TaskStatus, Option<FailureReason>, Option<String>) {
    let failed = |reason, text: &str| (TaskStatus::Failed, Some(reason), Some(text.to_owned()));
    match (outcome, cause) {
        (Outcome::Completed, _) => (TaskStatus::Completed, None, None),
        (Outcome::Failed { reason, mut summary }, _) => {
            if let Some((end, _)) = summary.char_indices().nth(Outcome::MAX_ERROR_CHARS) {
                summary.truncate(end);
            }
            (TaskStatus::Failed, Some(reason), Some(summary))
        }
        (Outcome::Cancelled, Some(StopCause::Shutdown)) => {
            (TaskStatus::Cancelled, Some(FailureReason::Shutdown), None)
        }
        (Outcome::Cancelled, Some(StopCause::Request)) => (TaskStatus::Cancelled, None, None),
        (Outcome::Cancelled, Some(StopCause::RunTime)) => {
            failed(FailureReason::TimedOut, "stopped at the limit of its time in the background")
        }
        (Outcome::Cancelled, None) => {
            failed(FailureReason::Error, "stopped although nobody had asked for it")
        }
    }
}
