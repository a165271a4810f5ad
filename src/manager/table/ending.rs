//! How a task ends: once, in whichever process.

use std::sync::Arc;
use std::time::SystemTime;

use super::entry::{Alarm, EndDelivery, EndSender, Finished, Stamp, UnpublishedEnd};
use super::{Kept, Limits, Phase, Place, StopCause, Table, Thrown};
use crate::task::{FailureReason, Outcome, Settlement, TaskId, TaskRecord, TaskStatus};

/// A task that has just ended for every reader. Its waiters are notified when the lock is released.
#[derive(Debug)]
pub(in crate::manager) struct Ending {
    pub(in crate::manager) record: TaskRecord,
    waiters: Option<Arc<EndSender>>,
}

impl Ending {
    /// Wakes the callers of `wait`. Their wakers do not panic.
    pub(in crate::manager) fn tell_waiters(&self) {
        if let Some(waiters) = &self.waiters {
            waiters.send_replace(Some(self.record.clone()));
        }
    }
}

/// What became of an attempt to end a task.
#[derive(Debug)]
pub(in crate::manager) enum SettleOutcome {
    /// It has ended.
    Ended(Ending),
    /// It will have ended so when other processes can see that. Until then it reads as before.
    Unpublished(TaskRecord),
}

/// Which processes have to see an end before it counts, and whether it is delivered.
#[derive(Clone, Copy, Debug)]
pub(in crate::manager) struct Audience {
    /// Other processes share the view of the tasks.
    pub(in crate::manager) is_shared: bool,
    /// A delivery follows. Until it is over it counts against the limits of running tasks.
    pub(in crate::manager) to_deliver: bool,
}

impl Table {
    /// Ends a task. Of several attempts the first counts; `None` for the others.
    pub(in crate::manager) fn settle(
        &mut self,
        limits: &Limits,
        place: Place,
        settlement: Settlement,
        Audience { is_shared, to_deliver }: Audience,
        (now, clock): (SystemTime, u64),
    ) -> Option<SettleOutcome> {
        let Some((index, cause)) = self.at(place).and_then(|index| Some((index, self.cause_at(index)?)))
        else {
            self.counters.late += 1;
            if let Some(result) = settlement.result {
                self.trash.push(Thrown::Result(result));
            }
            return None;
        };
        let Settlement { outcome, result } = settlement;
        let result = result.and_then(|result| self.reserve(limits, index, result));
        let (status, reason, error) = end_fields(outcome, cause);
        let end = UnpublishedEnd {
            completed_at: Stamp::of(now).max(self.entries[index].started_at),
            status,
            reason,
            error_summary: error.map(Arc::from),
            result,
            delivery: if to_deliver { EndDelivery::Open } else { EndDelivery::Nothing },
        };
        if !is_shared {
            return self.end(limits, index, end, clock).map(SettleOutcome::Ended);
        }
        let entry = &mut self.entries[index];
        let record = TaskRecord {
            status: end.status,
            failure_reason: end.reason,
            error_summary: end.error_summary.clone(),
            completed_at: Some(end.completed_at.time()),
            ..entry.record()
        };
        let Phase::Running(control) = &mut entry.phase else { return None };
        control.extra.get_or_insert_default().end = Some(end);
        self.unpublished.ends += 1;
        self.unpublished.deliveries += usize::from(to_deliver);
        Some(SettleOutcome::Unpublished(record))
    }

    /// Ends a task whose end is published.
    pub(in crate::manager) fn publish(&mut self, limits: &Limits, id: TaskId, clock: u64) -> Option<Ending> {
        let index = self.index_of(id)?;
        let end = self.take_unpublished(index)?;
        self.end(limits, index, end, clock)
    }

    /// Takes the end of a task that is not published. It has to be ended then.
    fn take_unpublished(&mut self, index: u32) -> Option<UnpublishedEnd> {
        let Phase::Running(control) = &mut self.entries[index].phase else { return None };
        let end = control.extra.as_mut()?.end.take()?;
        self.unpublished.ends -= 1;
        self.unpublished.deliveries -= usize::from(end.delivery == EndDelivery::Open);
        Some(end)
    }

    /// Ends a task as other processes have ended it. The alarm is for the work, should it still run.
    pub(in crate::manager) fn adopt(
        &mut self,
        limits: &Limits,
        found: &TaskRecord,
        clock: u64,
    ) -> Option<(Ending, Alarm)> {
        let index = self.index_of(found.id)?;
        let Phase::Running(control) = &mut self.entries[index].phase else {
            self.counters.late += 1;
            return None;
        };
        let alarm = control.alarm();
        let own = self.take_unpublished(index);
        // What runs on counts: the work until it is gone, or the delivery that will find that its end was not the one.
        let delivery = match own.as_ref().map(|own| own.delivery) {
            None | Some(EndDelivery::Open) => EndDelivery::Open,
            // The other end has a delivery of its own: the last will.
            Some(EndDelivery::Nothing | EndDelivery::Lost) => EndDelivery::Nothing,
        };
        if let Some(result) = own.and_then(|own| own.result) {
            self.give_back(index, result);
        }
        self.entries[index].cancel_requested_at = found.cancel_requested_at.map(Stamp::of);
        let end = UnpublishedEnd {
            completed_at: Stamp::of(found.completed_at.unwrap_or(found.started_at)),
            status: found.status,
            reason: found.failure_reason,
            error_summary: found.error_summary.clone(),
            result: None,
            delivery,
        };
        self.end(limits, index, end, clock).map(|ending| (ending, alarm))
    }

    /// A delivery is over, or will never begin.
    pub(in crate::manager) fn delivered(&mut self, place: Place, well: bool) {
        if let Some(index) = self.at(place)
            && let Phase::Running(control) = &mut self.entries[index].phase
        {
            // The task reads `running`: what became of the delivery counts with the end.
            if let Some(end) = control.extra.as_mut().and_then(|extra| extra.end.as_mut())
                && end.delivery == EndDelivery::Open
            {
                end.delivery = if well { EndDelivery::Nothing } else { EndDelivery::Lost };
                self.unpublished.deliveries -= 1;
            }
            return;
        }
        self.counters.undelivered += u64::from(!well);
        self.delivering -= 1;
        self.users[place.user].delivering -= 1;
        self.drop_empty_user(place.user);
    }

    /// What has asked a running task to stop, if anything has. `None`: its work has ended.
    fn cause_at(&self, index: u32) -> Option<Option<StopCause>> {
        match &self.entries[index].phase {
            Phase::Running(control) if !control.is_unpublished() => Some(control.cause),
            _ => None,
        }
    }

    /// The one transition out of `running`, for every reader.
    fn end(&mut self, limits: &Limits, index: u32, end: UnpublishedEnd, clock: u64) -> Option<Ending> {
        self.counters.settled(end.status);
        self.leave_phase(index);
        let UnpublishedEnd { completed_at, status, reason, error_summary, result, delivery } = end;
        let entry = &mut self.entries[index];
        entry.completed_at = Some(completed_at);
        let kept = Kept::failure(reason, error_summary);
        let ended = Phase::Ended(Finished { status, at: clock, kept });
        let Phase::Running(control) = std::mem::replace(&mut entry.phase, ended) else { return None };
        let (record, user) = (entry.record(), entry.user);
        match delivery {
            EndDelivery::Nothing => {}
            EndDelivery::Open => {
                self.delivering += 1;
                self.users[user].delivering += 1;
            }
            EndDelivery::Lost => self.counters.undelivered += 1,
        }
        if let Some(result) = result {
            self.store_result(index, result);
        }
        self.retire(limits, index);
        let waiters = control.extra.and_then(|extra| extra.waiters);
        Some(Ending { record, waiters })
    }
}

/// What a record says about an outcome.
fn end_fields(
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
