//! When a call is late.
//!
//! A timer of the runtime for each call would cost more than all the rest of the layer, and nearly all calls end before
//! it fires. But calls with equal timeouts are late in the order in which they began. So the calls of one layer wait in
//! lanes, one for each timeout and runtime, and one task for each lane, its janitor, sleeps until the first call is late.
//!
//! A lane belongs to one runtime, because each runtime has a clock of its own (it may be paused) and because it ends when
//! its runtime does. The calls of such a lane are woken, and what is left of their time goes on at the runtime that polls
//! them then.

mod janitor;
mod lanes;
mod own;
mod queue;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::janitor::Janitor;
use self::lanes::Key;
use self::own::Own;
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
        let key = Key { runtime: runtime.id(), timeout };
        match self.queue.join(key, deadline, waker.clone()) {
            Ok(place) => Deadline::Queued(place),
            Err(waker) => self.arm_first(&runtime, key, deadline, waker),
        }
    }

    /// The first call that waits for this time on this runtime, or a call of one timeout too many.
    #[cold]
    fn arm_first(&self, runtime: &Handle, key: Key, deadline: Instant, waker: Waker) -> Deadline {
        // Before anything else, and here: where there is no time driver this panics.
        let sleep = Box::pin(tokio::time::sleep_until(deadline));
        let Ok(Joined { place, opened }) = self.queue.open(key, deadline, waker) else {
            return Deadline::Own(Box::new(Own::new(deadline)));
        };
        if let Some(lane) = opened {
            let janitor = Janitor::new(Arc::clone(&self.queue), lane);
            let closed = self.open.0.clone();
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
    /// Its place in the queue, which has to be [left](Self::leave).
    Queued(u32),
    /// In no lane. In a box, because few calls have it and all would pay for the room.
    Own(Box<Own>),
}

impl Deadline {
    /// Ready once: when `timeout` has passed since the first poll. `timeout` is asked at the first poll only.
    pub(super) fn poll(
        &mut self,
        deadlines: &Deadlines,
        cx: &mut Context<'_>,
        timeout: impl FnOnce() -> Duration,
    ) -> Poll<()> {
        if let Self::Unset = self {
            *self = match timeout() {
                Duration::ZERO => return Poll::Ready(()),
                Duration::MAX => Self::Never,
                timeout => deadlines.arm(timeout, cx.waker()),
            };
            // A place in a lane has the waker already.
            let Self::Own(_) = self else { return Poll::Pending };
        }
        self.poll_armed(deadlines, cx)
    }

    fn poll_armed(&mut self, deadlines: &Deadlines, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Queued(place) = *self {
            // The clock is asked beside the queue: behind a task that is always busy the janitor may come late.
            match deadlines.queue.look(place, Instant::now(), cx.waker()) {
                Look::Waits => return Poll::Pending,
                Look::Due => {
                    *self = Self::Never;
                    return Poll::Ready(());
                }
                // The runtime of the lane has ended. What is left of the time goes on here.
                Look::Stranded(deadline) => *self = Self::Own(Box::new(Own::new(deadline))),
            }
        }
        let Self::Own(own) = self else { return Poll::Pending };
        let poll = own.poll(cx);
        if poll.is_ready() {
            *self = Self::Never;
        }
        poll
    }

    /// Whether it has been polled.
    #[inline]
    pub(super) const fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    /// The call waits no longer.
    #[inline]
    pub(super) fn leave(&mut self, deadlines: &Deadlines) {
        if let Self::Queued(place) = *self {
            *self = Self::Never;
            deadlines.queue.leave(place);
        }
    }
}
