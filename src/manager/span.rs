//! Enters spans whose subscriber is user code, which may panic.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::Span;

use crate::panics;

/// A span that is entered, if its subscriber has let that happen.
pub(super) struct Entered<'a>(Option<tracing::span::Entered<'a>>);

/// Enters a span until the answer is dropped. What runs in it runs outside of it if the subscriber panics.
pub(super) fn enter(span: Option<&Span>) -> Entered<'_> {
    Entered(panics::catch(|| span.map(Span::enter)).ok().flatten())
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let entered = self.0.take();
        panics::quietly(move || drop(entered));
    }
}

pin_project! {
    /// Polls a future in a span.
    pub(super) struct InSpan<F> {
        #[pin]
        future: F,
        span: Option<Span>,
    }

    impl<F> PinnedDrop for InSpan<F> {
        fn drop(this: Pin<&mut Self>) {
            let span = this.project().span.take();
            panics::quietly(move || drop(span));
        }
    }
}

impl<F> InSpan<F> {
    pub(super) const fn new(future: F, span: Span) -> Self {
        Self { future, span: Some(span) }
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = enter(this.span.as_ref());
        this.future.poll(cx)
    }
}
