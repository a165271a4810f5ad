use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::deadline::Deadline;
use super::hand_over::InFlight;
use super::hooks::{ClassifyResult, DeliverResult, Hooks, OffloadCall, RespondOffloaded};
use super::layer::OnDisconnect;
use super::plan::Terms;
use crate::telemetry;

/// Handles a call whose caller has left.
type Abandon<F, K, H> = fn(BoxedCall<F, K, H>);

type BoxedCall<F, K, H> = Pin<Box<InFlight<F, K, H>>>;

/// Response future for [`Offload`](super::Offload).
///
/// A caller who drops it before it is ready leaves the call: see [`OnDisconnect`](super::OnDisconnect).
///
/// # Panics
///
/// When it is polled after it was ready, and when it has to wait outside of a tokio runtime with its time driver.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, K, H> {
    /// `None` once the call is answered.
    in_flight: Option<BoxedCall<F, K, H>>,
    /// Not in the box, because a task does not need it.
    terms: Terms,
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
            Some(abandon) if started && !self.terms.waits_for_start() => abandon(in_flight),
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
    #[inline]
    pub(super) fn new(in_flight: BoxedCall<F, K, Hooks<M, P, C, D>>, terms: Terms) -> Self {
        let abandon: Option<Abandon<F, K, _>> = match in_flight.config.on_disconnect {
            OnDisconnect::Cancel => None,
            OnDisconnect::HandOver => Some(InFlight::abandon),
        };
        Self { in_flight: Some(in_flight), terms, deadline: Deadline::default(), abandon }
    }

    /// The future has returned `Pending`. Hands the call over if it is late, and returns the placeholder.
    #[inline]
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Option<Response> {
        let in_flight = self.in_flight.as_mut()?;
        let config = &*in_flight.config;
        let terms = &mut self.terms;
        if terms.waits_for_start() && terms.poll_start(cx) {
            // It may have been set for the log.
            self.deadline.leave(&config.deadlines);
            self.deadline = Deadline::default();
        }
        if in_flight.call.is_none() || terms.waits_for_start() {
            // It cannot be handed over.
            if terms.has_reason_to_log() {
                terms.poll_reason(|timeout| {
                    self.deadline.poll(&config.deadlines, cx, || timeout.unwrap_or(config.timeout))
                });
            }
            return None;
        }
        let first = !self.deadline.is_set();
        let is_late = self.deadline.poll(&config.deadlines, cx, || terms.timeout(config.timeout)).is_ready();
        if first && self.abandon.is_some() {
            // It is dropped outside of all spans.
            in_flight.as_mut().project().state.keep_span();
        }
        if !is_late {
            return None;
        }
        let timeout = self.terms.timeout(self.in_flight.as_ref()?.config.timeout);
        match self.in_flight.take()?.hand_over(timeout) {
            Ok(response) => Some(response),
            Err(refused) => {
                self.in_flight = Some(refused);
                None
            }
        }
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
        let Some(in_flight) = &mut polling.0.in_flight else {
            panic!("a response future was polled after it was ready, or after its poll had panicked");
        };
        // First, so that an answer that is ready at the deadline is not late. In one place up to the return, so that it is
        // not copied.
        let mut poll = in_flight.as_mut().poll_future(cx);
        if poll.is_ready() {
            drop(polling);
            telemetry::foreground();
        } else {
            if let Some(response) = polling.0.poll_deadline(cx) {
                poll = Poll::Ready(Ok(response));
            }
            mem::forget(polling);
        }
        poll
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
