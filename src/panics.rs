//! Calls of user code that must not harm others: hooks, wakers, destructors, `tracing` subscribers, metrics recorders.
//!
//! A panic in user code costs its own call and nothing else. Everything in here catches it, takes its message, and drops
//! its payload with care: a payload may be any value, such as one that panics when it is dropped.

use std::any::Any;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

/// Runs `call`. If it panics, returns the message of the panic as an error.
pub(crate) fn catch<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(take_message)
}

/// Runs `call` for its effects. If it panics, the panic hook of the process has reported that already.
pub(crate) fn quietly(call: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
        discard(payload);
    }
}

pin_project! {
    /// Polls a future of user code to its end, or to its panic, and drops it then. No panic leaves it, its destructor's
    /// included.
    pub(crate) struct Caught<F> {
        // `None` once it was dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Caught<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            if future.is_some() {
                quietly(|| future.set(None));
            }
        }
    }
}

/// A future that returns the message of a panic of `future` as an error.
pub(crate) const fn caught<F: Future>(future: F) -> Caught<F> {
    Caught { future: Some(future) }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        let poll = match catch(|| future.as_mut().as_pin_mut().map(|future| future.poll(cx))) {
            Ok(Some(Poll::Ready(output))) => Poll::Ready(Ok(output)),
            // It was polled again after its end.
            Ok(Some(Poll::Pending) | None) => Poll::Pending,
            Err(message) => Poll::Ready(Err(message)),
        };
        if poll.is_ready() {
            quietly(|| future.set(None));
        }
        poll
    }
}

fn take_message(payload: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked".to_owned()
    };
    discard(payload);
    message
}

fn discard(payload: Box<dyn Any + Send>) {
    // The second payload is leaked: dropping it may panic again, and so on without an end.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}

pin_project! {
    /// Polls a future with a waker that never panics.
    ///
    /// The channels that tell many waiters of one event wake them one after the other. A waker that panics would keep
    /// the rest from being woken, and would unwind into the task that tells. So a waker of user code enters such a channel
    /// only in here.
    pub(crate) struct WithQuietWaker<F> {
        #[pin]
        future: F,
        // The guard is kept to see whether the next poll has the same waker.
        waker: Option<(Arc<QuietWaker>, Waker)>,
    }
}

/// Makes `future` one that can wait in a channel beside those of others.
pub(crate) const fn with_quiet_waker<F: Future>(future: F) -> WithQuietWaker<F> {
    WithQuietWaker { future, waker: None }
}

impl<F: Future> Future for WithQuietWaker<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let is_known = this.waker.as_ref().is_some_and(|(known, _)| known.will_wake(cx.waker()));
        if !is_known {
            let guard = Arc::new(QuietWaker(Some(cx.waker().clone())));
            *this.waker = Some((Arc::clone(&guard), Waker::from(guard)));
        }
        let Some((_, waker)) = this.waker else { return Poll::Pending };
        this.future.poll(&mut Context::from_waker(waker))
    }
}

/// A waker of user code, in a form that can be woken, cloned and dropped anywhere.
pub(crate) struct QuietWaker(Option<Waker>);

impl QuietWaker {
    fn will_wake(&self, waker: &Waker) -> bool {
        self.0.as_ref().is_some_and(|known| known.will_wake(waker))
    }
}

impl Wake for QuietWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waker) = &self.0 {
            quietly(|| waker.wake_by_ref());
        }
    }
}

impl Drop for QuietWaker {
    fn drop(&mut self) {
        let waker = self.0.take();
        quietly(|| drop(waker));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::pin::pin;

    use super::*;

    /// A payload that panics when it is dropped, with such a payload again.
    struct Hostile;

    impl Drop for Hostile {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_goes_no_further() {
        assert_eq!(catch(|| std::panic::panic_any(Hostile)), Err("panicked".to_owned()));
        quietly(|| std::panic::panic_any(Hostile));
        assert_eq!(catch(|| panic!("of {}", 7)), Err("of 7".to_owned()));
    }

    #[test]
    fn a_future_that_panics_when_it_is_polled_or_dropped_has_an_answer() {
        struct Bad(Poll<u8>);
        impl Future for Bad {
            type Output = u8;

            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
                self.0
            }
        }
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("a future that panics when it is dropped");
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(caught(ready(1))).poll(&mut cx), Poll::Ready(Ok(1)));
        assert_eq!(pin!(caught(Bad(Poll::Ready(2)))).poll(&mut cx), Poll::Ready(Ok(2)));
        assert!(pin!(caught(Bad(Poll::Pending))).poll(&mut cx).is_pending());
        let panics = poll_fn(|_| -> Poll<u8> { panic!("of {}", 7) });
        assert_eq!(pin!(caught(panics)).poll(&mut cx), Poll::Ready(Err("of 7".to_owned())));
    }

    #[test]
    fn a_hostile_waker_panics_neither_when_it_is_woken_nor_when_it_is_dropped() {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("a waker that panics");
            }
        }
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("a waker that panics when it is dropped");
            }
        }
        let mut kept = None;
        {
            let waiting = poll_fn(|cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
            let mut waiting = pin!(with_quiet_waker(waiting));
            let waker = Waker::from(Arc::new(Bad));
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // The guard has the other reference, so that this drop is not the last one.
            drop(waker);
        }
        let kept = kept.unwrap();
        kept.wake_by_ref();
        drop(kept);
    }

    #[test]
    fn a_guard_is_made_once_for_each_waker() {
        let mut waiting = pin!(with_quiet_waker(pending::<()>()));
        let waker = Waker::from(Arc::new(QuietWaker(None)));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let first = waiting.waker.as_ref().map(|(guard, _)| Arc::as_ptr(guard));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(first, waiting.waker.as_ref().map(|(guard, _)| Arc::as_ptr(guard)));
    }
}
