//! Runs one piece of work to its end, whatever that is.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Sleep;

use super::context::CallToken;
use super::shared::Shared;
use super::timer::poll_timer;
use crate::task::{FailureReason, Outcome, Settlement, TaskId, TaskRecord};

/// Any error, as deliveries answer it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

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

/// One task's part of the manager. Whatever happens to it, the task is settled.
pub(super) struct Worker {
    shared: Arc<Shared>,
    id: TaskId,
    call: CallToken,
    settled: bool,
}

impl Worker {
    pub(super) const fn new(shared: Arc<Shared>, id: TaskId, call: CallToken) -> Self {
        Self { shared, id, call, settled: false }
    }

    fn settle(&mut self, settlement: Settlement) -> Option<TaskRecord> {
        self.settled = true;
        self.shared.settle(self.id, settlement)
    }
}

impl Drop for Worker {
    /// The runtime went away under it: the work is lost, and whoever asks shall know.
    fn drop(&mut self) {
        if !self.settled {
            self.call.cancel();
            let lost = "the runtime that ran the task has gone";
            self.settle(Outcome::failed_as(FailureReason::WorkerLost, lost).into());
            tracing::warn!(task_id = %self.id, "background task lost with its runtime");
        }
    }
}

pub(super) async fn run<F, C, D, DF>(mut worker: Worker, work: Pin<Box<F>>, classify: C, deliver: D)
where
    F: Future,
    C: FnOnce(&F::Output) -> Settlement,
    D: FnOnce(TaskRecord, Ended<F::Output>) -> DF,
    DF: Future<Output = Result<(), BoxError>>,
{
    let (ended, panic) = drive(&mut worker, work).await;
    let settlement = match &ended {
        Ended::Returned(value) => {
            catch_unwind(AssertUnwindSafe(|| classify(value))).unwrap_or_else(|panic| panicked(&*panic))
        }
        Ended::Panicked => panic.unwrap_or_else(|| panicked(&())),
        Ended::TimedOut => {
            let limit = worker.shared.limits.max_run_time.unwrap_or_default();
            let text = format_args!("still running in the background after {limit:?}");
            Outcome::failed_as(FailureReason::TimedOut, text).into()
        }
        Ended::Cancelled => Outcome::Cancelled.into(),
    };
    let Some(record) = worker.settle(settlement) else { return };
    tracing::info!(
        task_id = %record.id,
        status = record.status.as_str(),
        reason = record.failure_reason.map(FailureReason::as_str),
        error = record.error_summary.as_deref(),
        "background task ended"
    );
    let delivered = match catch_unwind(AssertUnwindSafe(|| deliver(record, ended))) {
        Ok(delivery) => caught(pin!(delivery)).await,
        Err(panic) => Err(panic),
    };
    let trouble = match delivered {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("panicked: {}", message(&*panic)),
    };
    worker.shared.table().counters.undelivered += 1;
    tracing::error!(task_id = %worker.id, error = trouble, "result of a background task not delivered");
}

/// Polls the work until it ends by itself or has to. When this returns the future is gone.
async fn drive<F: Future>(worker: &mut Worker, work: Pin<Box<F>>) -> (Ended<F::Output>, Option<Settlement>) {
    let Worker { shared, call, .. } = worker;
    let limits = &shared.limits;
    let token = call.get().clone();
    let mut stop = pin!(token.cancelled());
    // Boxed, because few managers have a run-time limit or a grace time, and every running task would pay the room.
    let mut limit = limits.max_run_time.map(sleep);
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    let mut stopping = None;
    let mut work = Some(work);
    let ended = poll_fn(|cx| {
        // First, so that what is done is done: an answer that is there wins over a stop of the same moment. After a
        // stop request this is also the chance to end in good order, with no grace time the only one.
        if let Some(future) = work.as_mut() {
            match catch_unwind(AssertUnwindSafe(|| call.enter(|| future.as_mut().poll(cx)))) {
                Ok(Poll::Ready(value)) => return Poll::Ready((Ended::Returned(value), None)),
                Ok(Poll::Pending) => {}
                Err(panic) => return Poll::Ready((Ended::Panicked, Some(panicked(&*panic)))),
            }
        }
        if stopping.is_none() {
            if stop.as_mut().poll(cx).is_ready() {
                stopping = Some(Ended::Cancelled);
            } else if limit.as_mut().is_some_and(|limit| poll_timer(limit.as_mut(), cx).is_ready()) {
                stopping = Some(Ended::TimedOut);
                token.cancel();
            }
            if stopping.is_some() && !limits.cancel_grace.is_zero() {
                grace = Some(sleep(limits.cancel_grace));
            }
        }
        if stopping.is_some() && grace.as_mut().is_none_or(|grace| poll_timer(grace.as_mut(), cx).is_ready())
        {
            return Poll::Ready((stopping.take().unwrap_or(Ended::Cancelled), None));
        }
        Poll::Pending
    })
    .await;
    // The record turns terminal only after this: nothing runs on behind a `cancelled`.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(work.take())));
    match (dropped, ended) {
        (Err(panic), (Ended::Cancelled | Ended::TimedOut, _)) => (Ended::Panicked, Some(panicked(&*panic))),
        (_, ended) => ended,
    }
}

fn sleep(duration: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(duration))
}

async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Box<dyn Any + Send>> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Settlement {
    Outcome::failed_as(FailureReason::Panic, message(panic)).into()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "panicked"
    }
}
