//! When a call is late.
//!
//! A timer of the runtime for each call would cost more than all the rest of the layer, and nearly all calls end before
//! it fires. So the calls of one layer wait in lanes, and one task for each lane, its janitor, sleeps until the first call
//! is late.
//!
//! A runtime has two lanes at most. Calls with the timeout of the layer are late in the order in which they began, so that
//! their lane is a linked list. All other timeouts, which clients may choose, share a sorted lane. Its janitor is notified
//! when a call joins that is late before all others.
//!
//! A lane belongs to one runtime, because each runtime has a clock of its own (it may be paused), and is closed when that
//! runtime ends. Its calls are woken then, and join the sorted lane of the runtime that polls them next.

mod janitor;
mod lanes;
mod queue;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::janitor::Janitor;
use self::queue::{Joined, Look, Queue};

/// The deadlines of all calls of a layer.
#[derive(Clone)]
pub(super) struct Deadlines {
    queue: Arc<Queue>,
    /// The janitors have the queue too, and end when the last of these is dropped.
    open: Arc<Open>,
}

struct Open(CancellationToken);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Deadlines {
    /// For calls that mostly have this timeout.
    pub(super) fn new(usual: Duration) -> Self {
        Self { queue: Arc::new(Queue::new(usual)), open: Arc::new(Open(CancellationToken::new())) }
    }

    fn arm(&self, timeout: Duration, waker: &Waker) -> Deadline {
        let runtime = Handle::current();
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Deadline::Never };
        if !self.queue.is_usual(timeout) {
            return self.arm_sorted(&runtime, deadline, waker.clone());
        }
        match self.queue.join(runtime.id(), deadline, waker.clone()) {
            Ok(place) => Deadline::Queued(place),
            Err(waker) => self.open(&runtime, deadline, |runtime| self.queue.open(runtime, deadline, waker)),
        }
    }

    /// For another timeout than that of the layer, or for what is left of a timeout.
    fn arm_sorted(&self, runtime: &Handle, deadline: Instant, waker: Waker) -> Deadline {
        match self.queue.join_sorted(runtime.id(), deadline, waker) {
            Ok(place) => Deadline::Queued(place),
            Err(waker) => {
                self.open(runtime, deadline, |runtime| self.queue.open_sorted(runtime, deadline, waker))
            }
        }
    }

    /// Joins a lane that is probably new, and starts its janitor.
    #[cold]
    fn open(
        &self,
        runtime: &Handle,
        deadline: Instant,
        join: impl FnOnce(runtime::Id) -> Joined,
    ) -> Deadline {
        // First, and not in the janitor: where there is no time driver this panics.
        let sleep = Box::pin(tokio::time::sleep_until(deadline));
        let Joined { place, opened } = join(runtime.id());
        if let Some(lane) = opened {
            let janitor = Janitor::new(Arc::clone(&self.queue), lane);
            let closed = self.open.0.clone();
            // A runtime that has ended drops the janitor at once, which closes the lane and wakes the call.
            runtime.spawn(async move { closed.run_until_cancelled(janitor.run(sleep)).await });
        }
        Deadline::Queued(place)
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines").finish_non_exhaustive()
    }
}

/// The deadline of one call. Costs nothing until it is polled: no clock, no timer, no lock.
#[derive(Debug, Default)]
pub(super) enum Deadline {
    #[default]
    Unset,
    /// It is too far away to come, or it has come.
    Never,
    /// The call's place in the queue, which has to be [left](Self::leave).
    Queued(u32),
}

impl Deadline {
    /// Ready once: when `timeout` has passed since the first poll. `timeout` is asked at the first poll only.
    ///
    /// # Panics
    ///
    /// Outside of a runtime with a time driver.
    pub(super) fn poll(
        &mut self,
        deadlines: &Deadlines,
        cx: &mut Context<'_>,
        timeout: impl FnOnce() -> Duration,
    ) -> Poll<()> {
        match *self {
            Self::Unset => {
                *self = match timeout() {
                    Duration::ZERO => return Poll::Ready(()),
                    Duration::MAX => Self::Never,
                    timeout => deadlines.arm(timeout, cx.waker()),
                };
                Poll::Pending
            }
            Self::Never => Poll::Pending,
            Self::Queued(place) => self.poll_queued(place, deadlines, cx),
        }
    }

    fn poll_queued(&mut self, place: u32, deadlines: &Deadlines, cx: &mut Context<'_>) -> Poll<()> {
        // The call reads the clock too: where a task is always busy, or a `current_thread` runtime stands between two calls
        // of `block_on`, the janitor comes late.
        match deadlines.queue.look(place, Instant::now(), cx.waker()) {
            Look::Waits => Poll::Pending,
            Look::Due => {
                *self = Self::Never;
                Poll::Ready(())
            }
            Look::Stranded(deadline) => {
                // The place is free already, and the next line may panic.
                *self = Self::Never;
                *self = deadlines.arm_sorted(&Handle::current(), deadline, cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether it has been polled.
    #[inline]
    pub(super) const fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    /// Frees the place of a call that waits no longer.
    #[inline]
    pub(super) fn leave(&mut self, deadlines: &Deadlines) {
        if let Self::Queued(place) = *self {
            *self = Self::Never;
            deadlines.queue.leave(place);
        }
    }
}
