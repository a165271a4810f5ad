use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::panics::quietly;

/// Tells the layer that the timeout of a call may begin: see [`Plan::start_after`](super::Plan::start_after).
///
/// Clones share one signal, and each call needs a signal of its own. A call whose signal is never given, such as when all
/// other clones are dropped, stays in the foreground.
///
/// ```
/// use tower_offload::offload::StartSignal;
///
/// let signal = StartSignal::new();
/// let of_the_body = signal.clone();
/// assert!(!signal.is_given());
/// of_the_body.give();
/// assert!(signal.is_given());
/// ```
#[derive(Clone, Default)]
pub struct StartSignal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_given: bool,
    /// That of the last poll.
    waker: Option<Waker>,
}

impl StartSignal {
    /// A signal that is not given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal and wakes the call. It never panics, so that a destructor can call it. Further calls have no effect.
    pub fn give(&self) {
        let mut state = self.state();
        state.is_given = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            // It is user code, and this may run in a destructor while a panic unwinds.
            quietly(|| waker.wake());
        }
    }

    /// Whether the signal is given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.state().is_given
    }

    /// Ready once the signal is given.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state();
        if state.is_given {
            return Poll::Ready(());
        }
        if state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(state);
        // Wakers are user code: none is cloned or dropped under the lock.
        let waker = cx.waker().clone();
        let mut state = self.state();
        let (is_given, other) =
            if state.is_given { (true, Some(waker)) } else { (false, state.waker.replace(waker)) };
        drop(state);
        quietly(|| drop(other));
        if is_given { Poll::Ready(()) } else { Poll::Pending }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let waker = self.waker.take();
        if waker.is_some() {
            quietly(|| drop(waker));
        }
    }
}

impl fmt::Debug for StartSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartSignal").field("is_given", &self.is_given()).finish()
    }
}
