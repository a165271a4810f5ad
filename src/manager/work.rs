//! What the manager runs: a future, and what belongs to it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tracing::Span;

use super::answers::{BoxError, Ended};
use super::context::CallToken;
use super::deliver::Published;
use super::timer::poll_timer;
use crate::bus::Delivery;
use crate::task::{IntoOutcome, Outcome, Settlement, TaskRecord};

/// A future that may run in the background, in one box with all that is needed then. So moving it there moves a
/// pointer, and a running task is no more than this, its place in the table, and what the runtime needs for it.
pub(crate) trait Work: Send + 'static {
    /// What the future returns.
    type Output: Send + 'static;

    /// Polls the future, [as part of the call](Seat::enter).
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output>;

    /// Drops the future, as part of the call. A future that has not returned is told first.
    fn clear(self: Pin<&mut Self>);

    /// The room for those who run it.
    fn seat(self: Pin<&mut Self>) -> &mut Seat;

    /// What its answer means. At most once, when it has returned.
    fn classify(&self, output: &Self::Output) -> Settlement;

    /// What another process delivers, should this one die. Asked for if there may be another one.
    fn last_will(&self, task: &TaskRecord) -> Option<Delivery>;

    /// Whether there is a delivery.
    fn delivers(&self) -> bool;

    /// Delivers the end that the record shows, at most once. The delivery runs when the end is `published`. No user code
    /// runs before the answer is polled.
    fn deliver(
        self: Pin<Box<Self>>,
        task: TaskRecord,
        ended: Ended<Self::Output>,
        published: Published,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + 'static;
}

/// What is kept beside a future, in the foreground and in the background.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(super) call: CallToken,
    pub(super) rare: Option<Box<Rare>>,
    /// In the background.
    pub(super) running: Option<Running>,
}

/// What few have, so that the others need no room for it.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// What the work runs in.
    pub(super) span: Option<Span>,
    /// The limit on its time; then the grace time, once it was told to stop.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
}

/// What the worker keeps.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The worker has looked whether it should stop.
    pub(super) looked: bool,
    /// How many stops of whatever tasks there had been then.
    pub(super) stops: u32,
    pub(super) stopping: Option<Stopping>,
}

impl Seat {
    /// Runs what belongs to the call, such as polling its future: there the call's token is found.
    pub(crate) fn enter<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.call.enter(run)
    }

    /// Tells the work that it is about to be dropped.
    pub(crate) fn cancel(&mut self) {
        self.call.cancel();
    }

    /// Polls the future as part of the call, and drops it when it has returned. What it has started goes on then.
    #[inline]
    pub(crate) fn poll_future<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let Some(polled) = future.as_mut().as_pin_mut() else { return Poll::Pending };
        let poll = self.enter(|| polled.poll(cx));
        if poll.is_ready() {
            self.enter(|| future.set(None));
        }
        poll
    }

    /// Drops a future that has not returned, as part of the call. Its token is cancelled first, so that what it has
    /// started elsewhere ends too.
    #[inline]
    pub(crate) fn drop_future<F>(&mut self, mut future: Pin<&mut Option<F>>) {
        if future.is_some() {
            self.cancel();
            self.enter(|| future.set(None));
        }
    }

    /// Keeps the span that is entered, for a hand-over that happens outside of it.
    pub(crate) fn keep_span(&mut self) {
        self.put_span(Some(Span::current()).filter(|span| !span.is_none()));
    }

    pub(super) fn has_span(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.span.is_some())
    }

    pub(super) fn take_span(&mut self) -> Option<Span> {
        self.rare.as_mut()?.span.take()
    }

    pub(super) fn put_span(&mut self, span: Option<Span>) {
        if span.is_some() {
            self.rare.get_or_insert_default().span = span;
        }
    }

    pub(super) fn set_timer(&mut self, timer: Option<Pin<Box<Sleep>>>) {
        if timer.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().timer = timer;
        }
    }

    /// Whether there is a timer, and it is over.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let timer = self.rare.as_mut()?.timer.as_mut()?;
        Some(poll_timer(timer.as_mut(), cx))
    }

    /// A span that was kept is not the one to run in.
    pub(crate) fn forget_span(&mut self) {
        self.take_span();
    }
}

/// Why the work was told to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopping {
    Asked,
    TimeLimit,
}

pin_project! {
    /// Work of one's own, given to [`TaskManager::register`](super::TaskManager::register).
    pub(super) struct Registered<F> {
        #[pin]
        future: Option<F>,
        seat: Seat,
    }

    impl<F> PinnedDrop for Registered<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.seat.drop_future(this.future);
        }
    }
}

impl<F> Registered<F> {
    pub(super) fn new(future: F) -> Pin<Box<Self>> {
        Box::pin(Self { future: Some(future), seat: Seat::default() })
    }
}

impl<F> Work for Registered<F>
where
    F: Future + Send + 'static,
    F::Output: IntoOutcome,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        this.seat.poll_future(this.future, cx).map(IntoOutcome::into_outcome)
    }

    fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        this.seat.drop_future(this.future);
    }

    fn seat(self: Pin<&mut Self>) -> &mut Seat {
        self.project().seat
    }

    fn classify(&self, outcome: &Outcome) -> Settlement {
        outcome.clone().into()
    }

    fn last_will(&self, _: &TaskRecord) -> Option<Delivery> {
        None
    }

    fn delivers(&self) -> bool {
        false
    }

    fn deliver(
        self: Pin<Box<Self>>,
        _: TaskRecord,
        _: Ended<Outcome>,
        _: Published,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        std::future::ready(Ok(()))
    }
}
