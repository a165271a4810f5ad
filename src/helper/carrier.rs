use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::panics;

pub(super) type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future in a task of a runtime that can be taken out of that task.
///
/// A runtime drops an aborted task when it runs next, which may be never. A future that is taken out is dropped by the
/// thread that takes it.
pub(super) struct Carrier {
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slot: Slot,
    /// How often the future was polled.
    polls: u64,
    /// Of the task.
    waker: Option<Waker>,
}

#[derive(Default)]
enum Slot {
    /// Nothing is in it yet, or the task polls it at this moment.
    #[default]
    Busy,
    Waiting(Run),
    /// The future is over, or was taken out.
    Over,
}

impl Carrier {
    /// A carrier without a future.
    pub(super) fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { runtime, state: Mutex::default() })
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs the future in a task of the runtime. When the runtime ends before the future does, the future is dropped and
    /// then `on_end` is called; if the runtime has ended already, before this returns.
    pub(super) fn spawn(self: &Arc<Self>, run: Run, on_end: impl FnOnce() + Send + 'static) {
        self.put(run);
        let task = Task { carrier: Arc::clone(self), on_end: Some(on_end) };
        self.runtime.spawn(task);
    }

    /// How often the future was polled.
    pub(super) fn polls(&self) -> u64 {
        self.state().polls
    }

    /// Wakes the task: it is polled soon if its runtime runs.
    pub(super) fn wake(&self) {
        let waker = self.state().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops the future, unless the task polls it at this moment. Returns whether it was dropped.
    pub(super) fn take(&self) -> bool {
        let run = self.state().take();
        let is_taken = run.is_some();
        self.discard(run);
        is_taken
    }

    /// Drops the future now, or as soon as the task has polled it.
    pub(super) fn end(&self) {
        let run = {
            let mut state = self.state();
            let run = state.take();
            state.slot = Slot::Over;
            run
        };
        self.discard(run);
    }

    fn discard(&self, run: Option<Run>) {
        if run.is_some() {
            discard(run);
            // So that the task ends too.
            self.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the future into its place, or drops it if there is none for it any more.
    fn put(&self, run: Run) {
        let unwanted = {
            let mut state = self.state();
            match state.slot {
                Slot::Busy => {
                    state.slot = Slot::Waiting(run);
                    None
                }
                Slot::Waiting(_) | Slot::Over => Some(run),
            }
        };
        discard(unwanted);
    }

    /// Takes the future out for a poll.
    fn begin_poll(&self, waker: &Waker) -> Option<Run> {
        let mut state = self.state();
        state.polls += 1;
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        let run = state.take();
        if run.is_some() {
            state.slot = Slot::Busy;
        }
        run
    }
}

impl State {
    fn take(&mut self) -> Option<Run> {
        match mem::replace(&mut self.slot, Slot::Over) {
            Slot::Waiting(run) => Some(run),
            other => {
                self.slot = other;
                None
            }
        }
    }
}

/// A destructor that panics costs nothing else.
fn discard(run: Option<Run>) {
    panics::quietly(move || drop(run));
}

struct Task<F: FnOnce()> {
    carrier: Arc<Carrier>,
    on_end: Option<F>,
}

// Nothing in it is pinned.
impl<F: FnOnce()> Unpin for Task<F> {}

impl<F: FnOnce()> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let carrier = Arc::clone(&self.carrier);
        let Some(mut run) = carrier.begin_poll(cx.waker()) else {
            self.on_end = None;
            return Poll::Ready(());
        };
        match panics::catch(|| run.as_mut().poll(cx)) {
            Ok(Poll::Pending) => {
                carrier.put(run);
                return Poll::Pending;
            }
            Ok(Poll::Ready(())) => self.on_end = None,
            // Such as that of a timer whose runtime ends: the destructor of the task says so.
            Err(_) => carrier.put(run),
        }
        Poll::Ready(())
    }
}

impl<F: FnOnce()> Drop for Task<F> {
    fn drop(&mut self) {
        let Some(on_end) = self.on_end.take() else { return };
        let run = self.carrier.state().take();
        // `None`: another thread has taken it out, and sees to the rest.
        if run.is_some() {
            discard(run);
            on_end();
        }
    }
}
