use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::deadline::Deadline;
use super::hand_over::InFlight;
use super::hooks::{ClassifyResult, DeliverResult, Hooks, OffloadCall, RespondOffloaded};
use super::layer::Config;
use super::plan::Plan;
use crate::telemetry;

/// What to do with a call whose caller has left.
type Abandon<F, K, H> = fn(Pin<Box<InFlight<F, K, H>>>);

/// Response future for [`Offload`](super::Offload).
///
/// Dropping it before it is ready is the caller who leaves: see [`OnDisconnect`](super::OnDisconnect).
///
/// # Panics
///
/// When it is polled after it was ready, and when it has to wait outside of a tokio runtime with its time driver.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, K, H> {
    /// `None` once the call is answered.
    in_flight: Option<Pin<Box<InFlight<F, K, H>>>>,
    deadline: Deadline,
    /// A pointer, because dropping knows none of the traits that handing over needs. `None`: drop the work.
    abandon: Option<Abandon<F, K, H>>,
}

// The call is in a box, and nothing here is pinned in its place.
impl<F, K, H> Unpin for ResponseFuture<F, K, H> {}

impl<F, K, H> ResponseFuture<F, K, H> {
    /// Drops the call.
    #[inline]
    fn clear(&mut self) {
        if let Some(in_flight) = &self.in_flight {
            self.deadline.leave(&in_flight.config.deadlines);
            self.in_flight = None;
        }
    }

    #[cold]
    fn caller_left(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let started = self.deadline.is_set();
        self.deadline.leave(&in_flight.config.deadlines);
        match self.abandon {
            Some(abandon) if started => abandon(in_flight),
            _ => drop(in_flight),
        }
    }
}

impl<F, K, H> Drop for ResponseFuture<F, K, H> {
    #[inline]
    fn drop(&mut self) {
        if self.in_flight.is_some() {
            self.caller_left();
        }
    }
}

/// Drops the call when its poll panics: it must not be handed over.
struct Polling<'a, F, K, H>(&'a mut ResponseFuture<F, K, H>);

impl<F, K, H> Drop for Polling<'_, F, K, H> {
    #[inline]
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl<F, K, M, P, C, D, Response, Error> ResponseFuture<F, K, Hooks<M, P, C, D>>
where
    F: Future<Output = Result<Response, Error>> + Send + 'static,
    Response: Send + 'static,
    Error: Send + 'static,
    K: OffloadCall,
    M: Send + Sync + 'static,
    P: RespondOffloaded<K, Response> + Send + Sync + 'static,
    C: ClassifyResult<Response, Error> + Send + Sync + 'static,
    D: DeliverResult<K, Response, Error> + Send + Sync + 'static,
{
    pub(super) fn new(
        make: impl FnOnce() -> F,
        plan: Plan<K>,
        config: Arc<Config<Hooks<M, P, C, D>>>,
        hand_over: bool,
    ) -> Self {
        let abandon: Option<Abandon<F, K, _>> = if hand_over { Some(InFlight::abandon) } else { None };
        let in_flight = Some(InFlight::new(make, plan, config));
        Self { in_flight, deadline: Deadline::default(), abandon }
    }
}

impl<F, K, M, P, C, D, Response, Error> Future for ResponseFuture<F, K, Hooks<M, P, C, D>>
where
    F: Future<Output = Result<Response, Error>> + Send + 'static,
    Response: Send + 'static,
    Error: Send + 'static,
    K: OffloadCall,
    M: Send + Sync + 'static,
    P: RespondOffloaded<K, Response> + Send + Sync + 'static,
    C: ClassifyResult<Response, Error> + Send + Sync + 'static,
    D: DeliverResult<K, Response, Error> + Send + Sync + 'static,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polling = Polling(self.get_mut());
        let this = &mut *polling.0;
        let Some(in_flight) = &mut this.in_flight else {
            panic!("a response future was polled after it was ready, or after its poll had panicked");
        };
        // First, so that an answer that is ready at the deadline is not late.
        if let Poll::Ready(result) = in_flight.as_mut().poll_future(cx) {
            drop(polling);
            telemetry::foreground();
            return Poll::Ready(result);
        }
        let parts = in_flight.as_mut().project();
        let (config, terms) = (parts.config, parts.terms);
        if terms.waits_for_start() && terms.poll_start(cx) {
            // It may have been set for the log.
            this.deadline.leave(&config.deadlines);
            this.deadline = Deadline::default();
        }
        if parts.call.is_none() || terms.waits_for_start() {
            // It cannot be handed over.
            if terms.has_reason_to_log() {
                terms.poll_reason(|timeout| {
                    this.deadline.poll(&config.deadlines, cx, || timeout.unwrap_or(config.timeout))
                });
            }
        } else {
            let first = !this.deadline.is_set();
            let timeout = || terms.timeout(config.timeout);
            let is_late = this.deadline.poll(&config.deadlines, cx, timeout).is_ready();
            if first && this.abandon.is_some() {
                // It is dropped outside of all spans.
                parts.state.keep_span();
            }
            if is_late && let Some(in_flight) = this.in_flight.take() {
                match in_flight.hand_over() {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(refused) => this.in_flight = Some(refused),
                }
            }
        }
        mem::forget(polling);
        Poll::Pending
    }
}

impl<F, K, H> fmt::Debug for ResponseFuture<F, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("answered", &self.in_flight.is_none())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
