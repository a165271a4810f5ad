//! How a task comes to its end: it is asked to stop, and it settles once.

use std::task::Waker;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::entry::{Alarm, Asked, Ended, Stamp};
use super::list::{Kind, List};
use super::{Control, Kept, Limits, Phase, Place, StopCause, Table, Thrown};
use crate::manager::StopOutcome;
use crate::task::{FailureReason, Outcome, Scope, Settlement, TaskId, TaskRecord, TaskStatus};

/// A stop request that was noted. The work is told when the lock is gone.
#[derive(Debug)]
pub(in crate::manager) struct Stopping {
    pub(in crate::manager) record: TaskRecord,
    pub(in crate::manager) alarm: Alarm,
    /// Nobody had asked before.
    pub(in crate::manager) first: bool,
}

/// A task that has just ended. It is told when the lock is gone.
#[derive(Debug)]
pub(in crate::manager) struct Ending {
    pub(in crate::manager) record: TaskRecord,
    asked: Option<Box<Asked>>,
}

impl Ending {
    /// Tells whoever waits for the end.
    pub(in crate::manager) fn tell(self) -> TaskRecord {
        if let Some(waiting) = self.asked.and_then(|asked| asked.told) {
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
            None => (StopOutcome::AlreadyFinished(self.entries[index].record()), None),
        }
    }

    /// The running tasks of a scope, in order of registration.
    pub(in crate::manager) fn running_in<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let user = scope.user_id().map(|id| self.user(id).map_or(List::new(), |user| user.running));
        let walk = self.walk(scope, user.map(|list| (list, Kind::UserPhase)));
        walk.filter(|(_, entry)| entry.is_running()).map(|(index, entry)| Place { index, id: entry.id })
    }

    /// All running tasks. Looks at those that have ended as well.
    pub(in crate::manager) fn all_running(&self) -> impl Iterator<Item = Place> {
        let running = self.entries.iter().filter(|(_, entry)| entry.is_running());
        running.map(|(index, entry)| Place { index, id: entry.id })
    }

    /// The same as [`request_stop`](Self::request_stop) for a task that was found before.
    pub(in crate::manager) fn stop_found(
        &mut self,
        place: Place,
        cause: StopCause,
        now: SystemTime,
    ) -> Option<Stopping> {
        let index = self.at(place)?;
        self.stop_at(index, cause, now)
    }

    /// `None`: it has ended. The first cause and time are the ones that count.
    fn stop_at(&mut self, index: u32, cause: StopCause, now: SystemTime) -> Option<Stopping> {
        let entry = &mut self.entries[index];
        let Phase::Running(control) = &mut entry.phase else { return None };
        let first = control.cause.is_none();
        let alarm = control.alarm();
        if first {
            control.cause = Some(cause);
            entry.cancel_requested_at = Some(Stamp::of(now).max(entry.started_at));
        }
        let (user, stopping) = (entry.user, Stopping { record: entry.record(), alarm, first });
        if first {
            self.touch(user);
        }
        Some(stopping)
    }

    /// The one transition out of `running`. Of several, the first counts; `None` for the others.
    pub(in crate::manager) fn settle(
        &mut self,
        limits: &Limits,
        place: Place,
        settlement: Settlement,
        now: SystemTime,
        clock: u64,
    ) -> Option<Ending> {
        let Some((index, cause)) = self.at(place).and_then(|index| Some((index, self.cause_at(index)?)))
        else {
            self.counters.late += 1;
            if let Some(result) = settlement.result {
                self.trash.push(Thrown::Result(result));
            }
            return None;
        };
        let Settlement { outcome, result } = settlement;
        let (status, reason, error) = verdict(outcome, cause);
        let completed_at = Stamp::of(now).max(self.entries[index].started_at);
        let kept = Kept::failure(reason, error.map(Into::into));
        let control = self.end(index, completed_at, Ended { status, at: clock, kept })?;
        let record = self.entries[index].record();
        if let Some(result) = result {
            self.store_result(limits, index, result);
        }
        self.retire(limits, index);
        Some(Ending { record, asked: control.asked })
    }

    /// Takes over how others have ended a task. The answer is for the one that still runs.
    pub(in crate::manager) fn adopt(
        &mut self,
        limits: &Limits,
        found: &TaskRecord,
        clock: u64,
    ) -> Option<(Ending, Alarm)> {
        let index = self.index_of(found.id)?;
        let completed_at = Stamp::of(found.completed_at.unwrap_or(found.started_at));
        let (status, reason) = (found.status, found.failure_reason);
        let entry = &mut self.entries[index];
        if let Phase::Ended(ended) = &mut entry.phase {
            self.counters.late += 1;
            ended.status = status;
            let kept = ended.kept.get_or_insert_default();
            kept.reason = reason;
            kept.error_summary.clone_from(&found.error_summary);
            entry.completed_at = Some(completed_at);
            let user = entry.user;
            self.touch(user);
            return None;
        }
        let kept = Kept::failure(reason, found.error_summary.clone());
        let mut control = self.end(index, completed_at, Ended { status, at: clock, kept })?;
        let alarm = control.alarm();
        let record = self.entries[index].record();
        self.retire(limits, index);
        Some((Ending { record, asked: control.asked }, alarm))
    }

    /// Whether the work of a task has to stop: somebody has asked for it, or its end was told already. If it has not,
    /// `waker` will be woken when it has.
    pub(in crate::manager) fn must_stop(&mut self, place: Place, waker: Option<&Waker>) -> bool {
        let Some(index) = self.at(place) else { return true };
        let Phase::Running(control) = &mut self.entries[index].phase else { return true };
        if control.cause.is_none() && waker.is_some() {
            control.waker = waker.cloned();
        }
        control.cause.is_some()
    }

    /// The token that the work watches, made now if nobody had asked for it. If the task should stop already, it
    /// has to be cancelled.
    pub(in crate::manager) fn token_of(&mut self, place: Place) -> Option<(CancellationToken, bool)> {
        let index = self.at(place)?;
        let Phase::Running(control) = &mut self.entries[index].phase else { return None };
        let token = control.asked.get_or_insert_default().token.get_or_insert_default();
        Some((token.clone(), control.cause.is_some()))
    }

    /// The same, if it was made.
    pub(in crate::manager) fn made_token_of(&self, place: Place) -> Option<CancellationToken> {
        let index = self.at(place)?;
        let Phase::Running(control) = &self.entries[index].phase else { return None };
        control.asked.as_ref()?.token.clone()
    }

    /// Who asked a running task to stop, if anybody.
    fn cause_at(&self, index: u32) -> Option<Option<StopCause>> {
        match &self.entries[index].phase {
            Phase::Running(control) => Some(control.cause),
            Phase::Ended(_) => None,
        }
    }

    /// Makes a running entry one that has ended, and is on no list of either.
    fn end(&mut self, index: u32, completed_at: Stamp, ended: Ended) -> Option<Control> {
        self.counters.settled(ended.status);
        self.leave_phase(index);
        let entry = &mut self.entries[index];
        entry.completed_at = Some(completed_at);
        match std::mem::replace(&mut entry.phase, Phase::Ended(ended)) {
            Phase::Running(control) => Some(control),
            Phase::Ended(_) => None,
        }
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
