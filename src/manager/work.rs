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
use crate::panics;
use crate::task::{IntoOutcome, Outcome, Settlement, TaskRecord};

/// A future that may run in the background, in one box with all that is needed then. To move it there is to move a
/// pointer, and a running task consists of this box, its place in the table, and the runtime's block.
pub(crate) trait Work: Send + 'static {
    /// What the future returns.
    type Output: Send + 'static;

    /// Polls the future, [as part of the call](CallState::enter).
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output>;

    /// Drops the future, as part of the call. If it has not returned, its token is cancelled first.
    fn clear(self: Pin<&mut Self>);

    /// The state that the manager keeps beside the future.
    fn state(self: Pin<&mut Self>) -> &mut CallState;

    /// How the task ends, by the answer of the future. Called at most once, when the future has returned.
    fn classify(&self, output: &Self::Output) -> Settlement;

    /// What another process delivers if this one dies. Called only if there may be another process.
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

/// What the manager keeps beside a future, in the foreground and in the background.
#[derive(Debug, Default)]
pub(crate) struct CallState {
    pub(super) token: CallToken,
    cold: Option<Box<ColdState>>,
}

/// What few calls have. In a box, so that the others need no room for it.
#[derive(Debug, Default)]
struct ColdState {
    /// The span that the work runs in.
    span: Option<Span>,
    /// The limit on the task's run time; then its grace time, once its token is cancelled.
    timer: Option<Pin<Box<Sleep>>>,
}

impl CallState {
    /// Runs something that belongs to the call, such as a poll of its future: there the call's token is found.
    #[inline]
    pub(crate) fn enter<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.token.enter(run)
    }

    /// Cancels the call's token before the work is dropped.
    pub(crate) fn cancel(&mut self) {
        self.token.cancel();
    }

    /// Polls the future as part of the call, and drops it there when it has returned. What it has started goes on then.
    #[inline]
    pub(crate) fn poll_future<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.enter(|| {
            let Some(polled) = future.as_mut().as_pin_mut() else { return Poll::Pending };
            let poll = polled.poll(cx);
            if poll.is_ready() {
                future.set(None);
            }
            poll
        })
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

    /// Keeps the current span, for a hand-over that happens outside of it.
    pub(crate) fn keep_span(&mut self) {
        // A subscriber that panics loses its span, and not the call.
        let span = panics::catch(Span::current).ok();
        self.put_span(span.filter(|span| !span.is_none()));
    }

    pub(super) fn has_span(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.span.is_some())
    }

    pub(super) fn take_span(&mut self) -> Option<Span> {
        self.cold.as_mut()?.span.take()
    }

    pub(super) fn put_span(&mut self, span: Option<Span>) {
        if span.is_some() {
            self.cold.get_or_insert_default().span = span;
        }
    }

    pub(super) fn set_timer(&mut self, timer: Option<Pin<Box<Sleep>>>) {
        if timer.is_some() || self.cold.is_some() {
            self.cold.get_or_insert_default().timer = timer;
        }
    }

    /// Polls the timer, if there is one.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let timer = self.cold.as_mut()?.timer.as_mut()?;
        Some(poll_timer(timer.as_mut(), cx))
    }

    /// Drops the span that was kept: the hand-over happens inside the right one.
    pub(crate) fn forget_span(&mut self) {
        self.take_span();
    }
}

pin_project! {
    /// A future that was given to [`TaskManager::spawn`](super::TaskManager::spawn).
    pub(super) struct Spawned<F> {
        #[pin]
        future: Option<F>,
        state: CallState,
    }

    impl<F> PinnedDrop for Spawned<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.state.drop_future(this.future);
        }
    }
}

impl<F> Spawned<F> {
    pub(super) fn new(future: F) -> Pin<Box<Self>> {
        Box::pin(Self { future: Some(future), state: CallState::default() })
    }
}

impl<F> Work for Spawned<F>
where
    F: Future + Send + 'static,
    F::Output: IntoOutcome,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        this.state.poll_future(this.future, cx).map(IntoOutcome::into_outcome)
    }

    fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        this.state.drop_future(this.future);
    }

    fn state(self: Pin<&mut Self>) -> &mut CallState {
        self.project().state
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
