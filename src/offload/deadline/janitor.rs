use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::{Instant, Sleep};

use super::queue::{Next, Opened, Queue};
use crate::panics;

/// How many calls are woken between two looks at the queue.
const BATCH: usize = 32;

/// The task that wakes the calls of one lane. The lane lives as long as its janitor.
pub(super) struct Janitor {
    queue: Arc<Queue>,
    lane: Opened,
    /// The lane is closed, and its number may be that of another lane.
    is_closed: bool,
}

impl Janitor {
    pub(super) const fn new(queue: Arc<Queue>, lane: Opened) -> Self {
        Self { queue, lane, is_closed: false }
    }

    /// Wakes the calls that are late until none waits. `sleep` lasts until the first one is late.
    ///
    /// A call that leaves does not notify the janitor: it wakes when the first call would have been late, looks which call
    /// is first now, and ends if there is none. So at most one task is started in each timeout, and not one for each call.
    pub(super) async fn run(mut self, mut sleep: Pin<Box<Sleep>>) {
        loop {
            let late_by = tokio::select! {
                // The timer may fire before the clock shows its deadline.
                () = sleep.as_mut() => Instant::now().max(sleep.deadline()),
                () = self.lane.notify.notified() => Instant::now(),
            };
            let Some(next) = self.wake(Some(late_by)) else { return };
            sleep.as_mut().reset(next);
        }
    }

    /// Wakes the calls that are late by then, or all calls. Returns when the next call is late.
    fn wake(&mut self, late_by: Option<Instant>) -> Option<Instant> {
        loop {
            let mut wakers = [const { None }; BATCH];
            let next = self.queue.take(self.lane.lane, late_by, &mut wakers);
            self.is_closed = matches!(next, Next::Closed);
            // Without the lock: a waker is user code.
            wakers.into_iter().flatten().for_each(wake);
            match next {
                Next::More => {}
                Next::At(deadline) => return Some(deadline),
                Next::Closed => return None,
            }
        }
    }
}

impl Drop for Janitor {
    /// The runtime of the lane has ended, or the layer and its calls are gone. The calls that still wait join a lane of
    /// the runtime that polls them next.
    fn drop(&mut self) {
        if !self.is_closed {
            self.wake(None);
        }
    }
}

/// A waker that panics does not keep the next calls from being woken.
fn wake(waker: Waker) {
    if panics::catch(|| waker.wake()).is_err() {
        panics::quietly(|| tracing::error!("a waker panicked"));
    }
}
