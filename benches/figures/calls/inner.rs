//! The service that is called: a future of 256 bytes and a bit that does as good as nothing.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;
use tower::Service;

/// When a call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// At its first poll.
    Ready,
    /// At its second poll, for which it has woken itself.
    Once,
    /// After a millisecond.
    Sleeping,
}

impl Work {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Once => "once",
            Self::Sleeping => "sleeping",
        }
    }
}

/// Answers each request with what `answer` makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner<R, A> {
    pub(crate) work: Work,
    pub(crate) answer: fn(R) -> A,
}

impl<R, A> Service<R> for Inner<R, A> {
    type Response = A;
    type Error = Infallible;
    type Future = Call<A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Call<A> {
        let until = match self.work {
            Work::Ready => Until::Now,
            Work::Once => Until::Polled,
            Work::Sleeping => Until::Slept(Box::pin(tokio::time::sleep(Duration::from_millis(1)))),
        };
        Call { held: black_box([1; 32]), until, answer: Some((self.answer)(request)) }
    }
}

/// What handlers hold while they wait makes futures as large as this.
#[derive(Debug)]
pub(crate) struct Call<A> {
    held: [u64; 32],
    until: Until,
    answer: Option<A>,
}

#[derive(Debug)]
enum Until {
    Now,
    Polled,
    Slept(Pin<Box<Sleep>>),
}

// Nothing in it is pinned.
impl<A> Unpin for Call<A> {}

impl<A> Future for Call<A> {
    type Output = Result<A, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.until {
            Until::Now => {}
            Until::Polled => {
                this.until = Until::Now;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Until::Slept(sleep) => std::task::ready!(sleep.as_mut().poll(cx)),
        }
        black_box(&this.held);
        Poll::Ready(Ok(this.answer.take().expect("it is polled once more than it waits")))
    }
}
