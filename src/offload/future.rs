use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::deadline::Deadline;
use super::hand_over::InFlight;
use super::hooks::{ClassifyResult, DeliverResult, Hooks, OffloadCall, RespondOffloaded};
use super::layer::Config;

/// What to do with a call whose caller has left.
type Abandon<F, K, H> = fn(Pin<Box<InFlight<F, K, H>>>);

pin_project! {
    /// Response future for [`Offload`](super::Offload).
    ///
    /// Dropping it before it is ready is the caller who leaves: see [`OnDisconnect`](super::OnDisconnect).
    ///
    /// # Panics
    ///
    /// When it is polled after it was ready, and when it has to wait outside of a tokio runtime with its time driver.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, K, H> {
        // `None` once the call is answered, and while it is polled: a call that panics must not be handed over.
        in_flight: Option<Pin<Box<InFlight<F, K, H>>>>,
        #[pin]
        deadline: Deadline,
        // A pointer, because dropping knows none of the traits that handing over needs. `None`: drop the work.
        abandon: Option<Abandon<F, K, H>>,
    }

    impl<F, K, H> PinnedDrop for ResponseFuture<F, K, H> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(in_flight) = this.in_flight.take() {
                match this.abandon {
                    Some(abandon) => abandon(in_flight),
                    None => in_flight.cancel(),
                }
            }
        }
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
        future: F,
        call: Option<K>,
        config: Arc<Config<Hooks<M, P, C, D>>>,
        hand_over: bool,
    ) -> Self {
        let abandon: Option<Abandon<F, K, _>> = if hand_over { Some(InFlight::abandon) } else { None };
        let in_flight = Some(Box::pin(InFlight::new(future, call, config)));
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
        let this = self.project();
        let Some(mut in_flight) = this.in_flight.take() else {
            panic!("a response future was polled after it was ready, or after its poll had panicked");
        };
        // First, so that an answer that is ready at the deadline is not late.
        if let Poll::Ready(result) = in_flight.as_mut().poll_future(cx) {
            return Poll::Ready(result);
        }
        let started = in_flight.as_mut().project();
        if !std::mem::replace(started.started, true) && this.abandon.is_some() {
            // It is dropped outside of all spans.
            started.seat.keep_span();
        }
        if in_flight.call.is_some() && this.deadline.poll(cx, || in_flight.timeout()).is_ready() {
            match in_flight.hand_over() {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(refused) => in_flight = refused,
            }
        }
        *this.in_flight = Some(in_flight);
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
