//! Runs one piece of work to its end, whatever that is.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::context::CallToken;
use super::directory::Verdict;
use super::shared::{Settled, Shared};
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

/// Tells when other processes can see the end of a task.
pub(crate) struct Seen(Option<oneshot::Receiver<()>>);

impl Seen {
    pub(crate) async fn wait(self) {
        if let Some(seen) = self.0 {
            // An error says that nobody waits for it any more.
            let _ = seen.await;
        }
    }
}

/// One task's part of the manager. Whatever happens to it, the task is settled and its delivery accounted for.
pub(super) struct Worker {
    shared: Arc<Shared>,
    id: TaskId,
    call: CallToken,
    state: State,
    /// A shutdown waits until this is dropped.
    _tracked: Option<TaskTrackerToken>,
}

enum State {
    Running,
    Delivering,
    Over,
}

impl Worker {
    pub(super) const fn new(
        shared: Arc<Shared>,
        id: TaskId,
        call: CallToken,
        tracked: Option<TaskTrackerToken>,
    ) -> Self {
        Self { shared, id, call, state: State::Running, _tracked: tracked }
    }

    fn settle(&mut self, settlement: Settlement) -> Option<Settled> {
        self.state = State::Over;
        let settled = self.shared.settle(self.id, settlement, true)?;
        self.state = State::Delivering;
        Some(settled)
    }

    fn delivered(&mut self, well: bool) {
        self.state = State::Over;
        self.shared.delivered(well);
    }
}

impl Drop for Worker {
    /// The runtime went away under it: the work or its delivery is lost, and whoever asks shall know.
    fn drop(&mut self) {
        match self.state {
            State::Running => {
                self.call.cancel();
                let lost = "the runtime that ran the task has gone";
                let outcome = Outcome::failed_as(FailureReason::WorkerLost, lost);
                self.shared.settle(self.id, outcome.into(), false);
                tracing::warn!(task_id = %self.id, "background task lost with its runtime");
            }
            State::Delivering => {
                self.shared.delivered(false);
                tracing::error!(task_id = %self.id, "result of a background task lost with its runtime");
            }
            State::Over => {}
        }
    }
}

/// `work` comes first: should this be dropped before it is polled, the work is gone before the worker says so.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps room for its arguments twice")]
pub(super) fn run<F, C, D, DF>(
    work: Pin<Box<F>>,
    mut worker: Worker,
    classify: C,
    deliver: D,
) -> impl Future<Output = ()>
where
    F: Future,
    C: FnOnce(&F::Output) -> Settlement,
    D: FnOnce(TaskRecord, Ended<F::Output>, Seen) -> DF,
    DF: Future<Output = Result<(), BoxError>>,
{
    async move {
        let (ended, panic) = drive(work, &mut worker).await;
        let settlement = match &ended {
            Ended::Returned(value) => {
                catch_unwind(AssertUnwindSafe(|| classify(value))).unwrap_or_else(panicked)
            }
            Ended::Panicked => panic.unwrap_or_else(|| panicked(Box::new(()))),
            Ended::TimedOut => {
                let limit = worker.shared.limits.max_run_time.unwrap_or_default();
                let text = format_args!("still running in the background after {limit:?}");
                Outcome::failed_as(FailureReason::TimedOut, text).into()
            }
            Ended::Cancelled => Outcome::Cancelled.into(),
        };
        let Some(Settled { record, published }) = worker.settle(settlement) else { return };
        tracing::info!(
            task_id = %record.id,
            status = record.status.as_str(),
            reason = record.failure_reason.map(FailureReason::as_str),
            error = record.error_summary.as_deref(),
            "background task ended"
        );
        let (tell, seen) = published.is_some().then(oneshot::channel).unzip();
        // Boxed, so that what runs for long does not pay for what comes at its end.
        let delivery = catch_unwind(AssertUnwindSafe(|| Box::pin(deliver(record, ended, Seen(seen)))));
        let mut delivery = pin!(async {
            match delivery {
                Ok(delivery) => caught(delivery).await,
                Err(panic) => Err(panic),
            }
        });
        let mut early = None;
        if let (Some(mut published), Some(tell)) = (published, tell) {
            // First the delivery, up to where it waits: it may have too much to keep while the bus is away.
            let verdict = tokio::select! {
                biased;
                done = &mut delivery => {
                    early = Some(done);
                    published.await
                }
                verdict = &mut published => verdict,
            };
            // Nobody is told of an end that others see as another one.
            if verdict == Ok(Verdict::Fenced) {
                tracing::warn!(task_id = %worker.id, "result dropped: the task was taken for lost");
                return worker.delivered(true);
            }
            // An error says that the delivery does not wait.
            let _ = tell.send(());
        }
        let delivered = match early {
            Some(delivered) => delivered,
            None => delivery.await,
        };
        let trouble = match delivered {
            Ok(Ok(())) => return worker.delivered(true),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panicked: {}", take_message(panic)),
        };
        worker.delivered(false);
        tracing::error!(task_id = %worker.id, error = trouble, "result of a background task not delivered");
    }
}

/// Polls the work until it ends by itself or has to. When this returns the future is gone.
async fn drive<F: Future>(work: Pin<Box<F>>, worker: &mut Worker) -> (Ended<F::Output>, Option<Settlement>) {
    let Worker { shared, call, id, .. } = worker;
    let limits = &shared.limits;
    let token = call.get().clone();
    let mut stop = pin!(token.cancelled());
    // Boxed, because few managers have a run-time limit or a grace time, and every running task would pay the room.
    let mut limit = limits.max_run_time.map(sleep);
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    let mut stopping = None;
    let mut work = Some(work);
    let ended = poll_fn(|cx| {
        loop {
            // First, so that what is done is done: an answer that is there wins over a stop of the same moment.
            if let Some(future) = work.as_mut() {
                match catch_unwind(AssertUnwindSafe(|| call.enter(|| future.as_mut().poll(cx)))) {
                    Ok(Poll::Ready(value)) => return Poll::Ready((Ended::Returned(value), None)),
                    Ok(Poll::Pending) => {}
                    Err(panic) => return Poll::Ready((Ended::Panicked, Some(panicked(panic)))),
                }
            }
            if stopping.is_some() {
                break;
            }
            if stop.as_mut().poll(cx).is_ready() {
                stopping = Some(Ended::Cancelled);
            } else if limit.as_mut().is_some_and(|limit| poll_timer(limit.as_mut(), cx).is_ready()) {
                stopping = Some(Ended::TimedOut);
                shared.reach_limit(*id);
            } else {
                return Poll::Pending;
            }
            if !limits.cancel_grace.is_zero() {
                grace = Some(sleep(limits.cancel_grace));
            }
            // Once more round: now that it has been told, the work can end in good order. With no grace time this is
            // its only chance.
        }
        if grace.as_mut().is_some_and(|grace| poll_timer(grace.as_mut(), cx).is_pending()) {
            return Poll::Pending;
        }
        Poll::Ready((stopping.take().unwrap_or(Ended::Cancelled), None))
    })
    .await;
    // The record turns terminal only after this: nothing runs on behind a `cancelled`. Within the call, so that a call
    // further in knows that it goes with its task, and is not one whose caller has left.
    let dropped = catch_unwind(AssertUnwindSafe(|| call.enter(|| drop(work.take()))));
    match (dropped, ended) {
        (Err(panic), (Ended::Cancelled | Ended::TimedOut, _)) => (Ended::Panicked, Some(panicked(panic))),
        (Err(panic), ended) => {
            take_message(panic);
            ended
        }
        (Ok(()), ended) => ended,
    }
}

fn sleep(duration: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(duration))
}

async fn caught<F: Future>(mut future: Pin<Box<F>>) -> Result<F::Output, Box<dyn Any + Send>> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panicked(panic: Box<dyn Any + Send>) -> Settlement {
    Outcome::failed_as(FailureReason::Panic, take_message(panic)).into()
}

/// The message of a panic. The payload is dropped with care: it may be anything, such as something that panics when
/// it is dropped.
fn take_message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked".to_owned()
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    message
}
