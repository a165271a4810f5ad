//! What the table keeps of one task: as little as a record can be made of.

use std::num::NonZeroI64;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::links::{Linked, Links, UNLINKED};
use super::{Place, StopCause};
use crate::panics;
use crate::task::{FailureReason, TaskId, TaskMeta, TaskRecord, TaskResult, TaskStatus};

/// Tells the waiters of a task its end: `None` until then, and for good if the task never ran.
pub(super) type EndSender = watch::Sender<Option<TaskRecord>>;

#[derive(Debug)]
pub(in crate::manager) struct Entry {
    pub(super) id: TaskId,
    pub(super) meta: TaskMeta,
    pub(super) started_at: Stamp,
    pub(super) completed_at: Option<Stamp>,
    pub(super) cancel_requested_at: Option<Stamp>,
    links: Links,
    /// Whose it is: indexes into the users and the sessions of the table.
    pub(super) user: u32,
    pub(super) session: u32,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    Running(Control),
    Ended(Finished),
}

/// What a running task has beside its record.
#[derive(Debug)]
pub(super) struct Control {
    /// The worker's, once the work has not been ready.
    pub(super) waker: Option<Waker>,
    pub(super) cause: Option<StopCause>,
    pub(super) extra: Option<Box<Extra>>,
}

/// What few running tasks have. Each field is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// What the work watches.
    pub(super) token: Option<CancellationToken>,
    pub(super) waiters: Option<Arc<EndSender>>,
    pub(super) end: Option<UnpublishedEnd>,
}

/// How a task has ended that still reads `running`, because other processes cannot see its end yet.
#[derive(Debug)]
pub(super) struct UnpublishedEnd {
    pub(super) completed_at: Stamp,
    pub(super) status: TaskStatus,
    pub(super) reason: Option<FailureReason>,
    pub(super) error_summary: Option<Arc<str>>,
    pub(super) result: Option<TaskResult>,
    pub(super) delivery: EndDelivery,
}

/// The delivery of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndDelivery {
    Nothing,
    /// It runs, or waits for the publication of the end.
    Open,
    /// Its runtime ended before the end was published. It counts as undelivered when the end counts.
    Lost,
}

impl Control {
    fn new(token: Option<CancellationToken>) -> Self {
        let extra = token.map(|token| Box::new(Extra { token: Some(token), ..Extra::default() }));
        Self { waker: None, cause: None, extra }
    }

    /// What tells the work that it should stop.
    pub(super) fn alarm(&mut self) -> Alarm {
        let token = self.extra.as_ref().and_then(|extra| extra.token.clone());
        Alarm { waker: self.waker.take(), token }
    }

    /// Whether the work has ended, and its end is not published.
    pub(super) fn is_unpublished(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.end.is_some())
    }
}

/// Tells the work of a task that it should stop, when it is dropped: after the lock is released, and also when something
/// else panics in between. The table has no other waker of the worker.
#[derive(Debug)]
pub(in crate::manager) struct Alarm {
    waker: Option<Waker>,
    token: Option<CancellationToken>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            // This runs the wakers of the tasks that watch the token, and drops them.
            panics::quietly(move || token.cancel());
        }
        if let Some(waker) = self.waker.take() {
            panics::quietly(move || waker.wake());
        }
    }
}

/// What a finished task has beside its record.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: TaskStatus,
    /// When it ended, in milliseconds of the manager's clock; for the time limit of the retention.
    pub(super) at: u64,
    pub(super) kept: Option<Box<Kept>>,
}

/// The error and the result of an ended task. In a box, because most tasks have neither.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) reason: Option<FailureReason>,
    pub(super) error_summary: Option<Arc<str>>,
    pub(super) result: Option<TaskResult>,
}

impl Kept {
    /// What is left of a failure; `None` if there is nothing to keep.
    pub(super) fn failure(
        reason: Option<FailureReason>,
        error_summary: Option<Arc<str>>,
    ) -> Option<Box<Self>> {
        let is_failure = reason.is_some() || error_summary.is_some();
        is_failure.then(|| Box::new(Self { reason, error_summary, result: None }))
    }
}

impl Entry {
    pub(super) fn running(
        record: &TaskRecord,
        token: Option<CancellationToken>,
        user: u32,
        session: u32,
    ) -> Self {
        Self {
            id: record.id,
            meta: record.meta.clone(),
            started_at: Stamp::of(record.started_at),
            completed_at: None,
            cancel_requested_at: None,
            links: UNLINKED,
            user,
            session,
            phase: Phase::Running(Control::new(token)),
        }
    }

    /// Where it is, given its index.
    pub(super) const fn place(&self, index: u32) -> Place {
        Place { index, user: self.user, id: self.id }
    }

    pub(in crate::manager) const fn id(&self) -> TaskId {
        self.id
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    pub(in crate::manager) fn record(&self) -> TaskRecord {
        let mut record = TaskRecord::running(self.id, self.meta.clone(), self.started_at.time());
        record.cancel_requested_at = self.cancel_requested_at.map(Stamp::time);
        record.completed_at = self.completed_at.map(Stamp::time);
        if let Phase::Ended(ended) = &self.phase {
            record.status = ended.status;
            if let Some(kept) = &ended.kept {
                record.failure_reason = kept.reason;
                record.error_summary = kept.error_summary.clone();
            }
        }
        record
    }

    pub(super) fn kept(&self) -> Option<&Kept> {
        match &self.phase {
            Phase::Ended(ended) => ended.kept.as_deref(),
            Phase::Running(_) => None,
        }
    }

    pub(super) fn kept_mut(&mut self) -> Option<&mut Kept> {
        match &mut self.phase {
            Phase::Ended(ended) => ended.kept.as_deref_mut(),
            Phase::Running(_) => None,
        }
    }

    pub(super) fn result(&self) -> Option<&TaskResult> {
        self.kept()?.result.as_ref()
    }
}

impl Linked for Entry {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// A moment, in nanoseconds from 1970. Years before 1678 and after 2262 are moved to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(NonZeroI64);

const FIRST: NonZeroI64 = NonZeroI64::new(1).unwrap();

impl Stamp {
    pub(super) fn of(time: SystemTime) -> Self {
        let nanos = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(-i64::MAX, |nanos| -nanos),
        };
        // The first nanosecond of 1970 is one later, so that an `Option` needs no room of its own.
        Self(NonZeroI64::new(nanos).unwrap_or(FIRST))
    }

    pub(super) fn time(self) -> SystemTime {
        let nanos = Duration::from_nanos(self.0.get().unsigned_abs());
        if self.0.is_positive() { SystemTime::UNIX_EPOCH + nanos } else { SystemTime::UNIX_EPOCH - nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 128, "{}", size_of::<Entry>());
        assert_eq!(size_of::<Option<Stamp>>(), 8);
    }

    #[test]
    fn a_stamp_is_the_time() {
        let epoch = SystemTime::UNIX_EPOCH;
        for nanos in [1, 999, 1_795_354_291_654_130_123] {
            let time = epoch + Duration::from_nanos(nanos);
            assert_eq!(Stamp::of(time).time(), time);
            let time = epoch - Duration::from_nanos(nanos);
            assert_eq!(Stamp::of(time).time(), time);
        }
        assert_eq!(Stamp::of(epoch).time(), epoch + Duration::from_nanos(1));
        let far = epoch + Duration::from_secs(1 << 40);
        assert_eq!(Stamp::of(far).time(), epoch + Duration::from_nanos(i64::MAX as u64));
    }
}
