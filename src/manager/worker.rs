//! Runs one piece of work to its end.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::answers::Ended;
use super::context::{CallToken, Running, Stopping};
use super::deliver::{Delivering, Published, deliver};
use super::mirror::VerdictReceiver;
use super::shared::Shared;
use super::span::{InSpan, enter};
use super::table::Place;
use super::work::{CallState, Work};
use crate::panics;
use crate::task::{FailureReason, Outcome, Settlement, TaskRecord};

/// One task's part of the manager. In every case the task is settled and its delivery is accounted for.
///
/// It is a pointer and no more, because the runtime keeps it in a block that a few more words would double.
pub(super) struct Worker<W: Work>(State<W>);

enum State<W> {
    Running(Pin<Box<W>>),
    Delivering(Pin<Box<dyn Future<Output = ()> + Send>>),
    Over,
}

impl<W: Work> Worker<W> {
    /// `work` is a task of the manager from now on.
    pub(super) fn new(mut work: Pin<Box<W>>, shared: Arc<Shared>, place: Place) -> Self {
        let state = work.as_mut().state();
        state.token = CallToken::Background { shared, place, running: Running::default() };
        Self(State::Running(work))
    }
}

impl<W: Work> Future for Worker<W> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Running(work) = &mut self.0 {
            // Taken out, because it is entered while the work is polled.
            let span = work.as_mut().state().take_span();
            let entered = enter(span.as_ref());
            let Poll::Ready((ended, panic)) = drive(work.as_mut(), cx) else {
                drop(entered);
                work.as_mut().state().put_span(span);
                return Poll::Pending;
            };
            if let State::Running(work) = mem::replace(&mut self.0, State::Over)
                && let Some(delivery) = finish(work, ended, panic)
            {
                drop(entered);
                self.0 = State::Delivering(match span {
                    Some(span) => Box::pin(InSpan::new(delivery, span)),
                    None => Box::pin(delivery),
                });
            }
        }
        if let State::Delivering(delivery) = &mut self.0 {
            ready!(delivery.as_mut().poll(cx));
            self.0 = State::Over;
        }
        Poll::Ready(())
    }
}

impl<W: Work> Drop for Worker<W> {
    /// The runtime has ended while the work ran: the task is lost, and its record says so.
    fn drop(&mut self) {
        let State::Running(work) = &mut self.0 else { return };
        let state = work.as_mut().state();
        let CallToken::Background { shared, place, .. } = &state.token else { return };
        let unsettled = Unsettled::new(Arc::clone(shared), *place);
        let span = state.take_span();
        let entered = enter(span.as_ref());
        // First the work: nothing runs on behind a record that says that it has ended.
        panics::quietly(|| work.as_mut().state().cancel());
        panics::quietly(|| work.as_mut().clear());
        let outcome = Outcome::failed_as(FailureReason::WorkerLost, "the runtime that ran the task has gone");
        let task_id = unsettled.place.id;
        if let Err(fenced) = unsettled.settle(outcome.into(), false) {
            fenced.done(true);
        }
        panics::quietly(|| tracing::warn!(%task_id, "background task lost with its runtime"));
        drop(entered);
        panics::quietly(move || drop(span));
    }
}

/// The record of an end, and what tells its publication if there are other processes.
type End = (TaskRecord, Option<VerdictReceiver>);

/// A task whose work ends. Whatever panics in between, the task is settled.
struct Unsettled {
    shared: Arc<Shared>,
    place: Place,
    is_open: bool,
}

impl Unsettled {
    const fn new(shared: Arc<Shared>, place: Place) -> Self {
        Self { shared, place, is_open: true }
    }

    /// Ends the task. An error says that another process had ended it, and only its work was left, which counts until it is
    /// gone.
    fn settle(mut self, settlement: Settlement, to_deliver: bool) -> Result<End, Delivering> {
        self.close(settlement, to_deliver)
    }

    fn close(&mut self, settlement: Settlement, to_deliver: bool) -> Result<End, Delivering> {
        // User code, so before the lock.
        let settlement = self.shared.limits.redactor.settlement(settlement);
        self.is_open = false;
        let end = self.shared.settle(self.place, settlement, to_deliver);
        end.ok_or_else(|| Delivering::new(Arc::clone(&self.shared), self.place))
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if self.is_open {
            panics::quietly(|| {
                let settlement = panicked("the end of the task could not be read".to_owned());
                if let Err(fenced) = self.close(settlement, false) {
                    fenced.done(true);
                }
            });
        }
    }
}

/// Polls the work until it ends by itself or has to.
fn drive<W: Work>(
    mut work: Pin<&mut W>,
    cx: &mut Context<'_>,
) -> Poll<(Ended<W::Output>, Option<Settlement>)> {
    loop {
        // First, so that what is done is done: an answer that is there wins over a stop of the same moment.
        match panics::catch(|| work.as_mut().poll(cx)) {
            Ok(Poll::Ready(value)) => return Poll::Ready((Ended::Returned(value), None)),
            Ok(Poll::Pending) => {}
            Err(message) => {
                // What the work has started elsewhere hears of its end.
                panics::quietly(|| work.as_mut().state().cancel());
                return Poll::Ready((Ended::Panicked, Some(panicked(message))));
            }
        }
        let state = work.as_mut().state();
        let timer = state.poll_timer(cx);
        let CallState { token: CallToken::Background { shared, place, running }, .. } = state else {
            return Poll::Pending;
        };
        if let Some(cause) = running.stopping {
            if timer == Some(Poll::Pending) {
                return Poll::Pending;
            }
            return Poll::Ready(match cause {
                Stopping::Asked => (Ended::Cancelled, None),
                Stopping::TimeLimit => (Ended::TimedOut, None),
            });
        }
        let first = !running.looked;
        if shared.must_stop(*place, running, cx.waker()) {
            running.stopping = Some(Stopping::Asked);
            // The stop may be noted while the token is not cancelled yet, and this may be the last poll of the work.
            panics::quietly(|| shared.cancel_token_of(*place));
        } else if timer == Some(Poll::Ready(())) {
            running.stopping = Some(Stopping::TimeLimit);
            shared.reach_limit(*place);
        } else if let Some(limit) = shared.limits.max_run_time.filter(|_| first) {
            let timer = sleep(shared, limit);
            state.set_timer(timer);
            // So that it wakes.
            if state.poll_timer(cx) != Some(Poll::Ready(())) {
                return Poll::Pending;
            }
            continue;
        } else {
            return Poll::Pending;
        }
        running.is_cancelled = true;
        let grace = shared.limits.cancel_grace;
        let timer = if grace.is_zero() { None } else { sleep(shared, grace) };
        state.set_timer(timer);
        // Polls the work once more: its token is cancelled now, so it can end in good order. Without a grace time this is its
        // only chance.
    }
}

/// The work has ended, or has to: drops it, settles the task, and answers what is left to do.
fn finish<W: Work>(
    mut work: Pin<Box<W>>,
    mut ended: Ended<W::Output>,
    mut panic: Option<Settlement>,
) -> Option<impl Future<Output = ()> + Send + use<W>> {
    // The record turns terminal only after this: no work runs behind a `cancelled`. Within the call, so that a nested call is
    // dropped with its task, and not handed over as one whose caller has left.
    if let Err(message) = panics::catch(|| work.as_mut().clear())
        && let Ended::Cancelled | Ended::TimedOut = ended
    {
        (ended, panic) = (Ended::Panicked, Some(panicked(message)));
    }
    let state = work.as_mut().state();
    // Back to where it makes no sense to stop any more.
    let CallToken::Background { shared, place, .. } = mem::take(&mut state.token) else { return None };
    let unsettled = Unsettled::new(Arc::clone(&shared), place);
    let settlement = match &ended {
        Ended::Returned(value) => panics::catch(|| work.classify(value)).unwrap_or_else(panicked),
        Ended::Panicked => panic.unwrap_or_else(|| panicked(String::new())),
        Ended::TimedOut => {
            let limit = shared.limits.max_run_time.unwrap_or_default();
            let text = format_args!("still running in the background after {limit:?}");
            Outcome::failed_as(FailureReason::TimedOut, text).into()
        }
        Ended::Cancelled => Outcome::Cancelled.into(),
    };
    let delivers = work.delivers();
    let ended = if delivers {
        Some(ended)
    } else {
        // Before a shutdown hears that all is over.
        panics::quietly(|| drop(ended));
        None
    };
    let work = if delivers {
        Some(work)
    } else {
        // So that the work does not outlive the end either.
        panics::quietly(|| drop(work));
        None
    };
    let (record, verdict) = match unsettled.settle(settlement, delivers) {
        Ok(end) => end,
        Err(fenced) => {
            panics::quietly(|| drop(ended));
            panics::quietly(|| drop(work));
            fenced.done(true);
            return None;
        }
    };
    // Counts the delivery until it is over, whatever panics from here on.
    let delivering = Delivering::new(Arc::clone(&shared), place);
    let (Some(work), Some(ended)) = (work, ended) else {
        delivering.forget();
        return None;
    };
    let published = Published::new(Arc::clone(&shared), verdict);
    Some(deliver(delivering, work.deliver(record, ended, published)))
}

/// A timer. `None` without a time driver: there the work has no limit, and no grace time.
fn sleep(shared: &Shared, duration: Duration) -> Option<Pin<Box<Sleep>>> {
    shared.sleep(duration).map(Box::pin)
}

fn panicked(message: String) -> Settlement {
    Outcome::failed_as(FailureReason::Panic, message).into()
}
