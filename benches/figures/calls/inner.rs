//! The services that are called. Their futures do next to nothing, and have the sizes that futures of services have.

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

/// Answers each request with what `answer` makes of it. Its future holds so many words while it waits: 32 are 256 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner<R, A, const WORDS: usize = 32> {
    pub(crate) work: Work,
    pub(crate) answer: fn(R) -> A,
}

impl<R, A, const WORDS: usize> Service<R> for Inner<R, A, WORDS> {
    type Response = A;
    type Error = Infallible;
    type Future = Call<A, WORDS>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Call<A, WORDS> {
        let until = match self.work {
            Work::Ready => Until::Now,
            Work::Once => Until::Polled,
            Work::Sleeping => Until::Slept(Box::pin(tokio::time::sleep(Duration::from_millis(1)))),
        };
        Call { held: black_box([1; WORDS]), until, answer: Some((self.answer)(request)) }
    }
}

/// The future of a handler: what it holds while it waits, and how long it waits.
#[derive(Debug)]
pub(crate) struct Call<A, const WORDS: usize> {
    held: [u64; WORDS],
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
impl<A, const WORDS: usize> Unpin for Call<A, WORDS> {}

impl<A, const WORDS: usize> Future for Call<A, WORDS> {
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

/// A service whose future is 16 bytes, and all of whose code the compiler can inline: nothing passes through `black_box`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small {
    pub(crate) work: Work,
}

impl Service<u64> for Small {
    type Response = u64;
    type Error = Infallible;
    type Future = SmallCall;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u64) -> SmallCall {
        SmallCall { number, waits: self.work == Work::Once }
    }
}

/// The future of [`Small`].
#[derive(Debug)]
pub(crate) struct SmallCall {
    number: u64,
    waits: bool,
}

const _: () = assert!(size_of::<SmallCall>() == 16);

impl Future for SmallCall {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.number))
    }
}
