use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::{Instant, Sleep};

use super::queue::{Next, Queue};

/// How many are woken between two looks at the queue.
const BATCH: usize = 32;

/// The task that wakes the calls of one lane. The lane lives as long as this.
pub(super) struct Janitor {
    queue: Arc<Queue>,
    lane: u32,
    /// The lane is gone, and its number may be that of another one.
    over: bool,
}

impl Janitor {
    pub(super) const fn new(queue: Arc<Queue>, lane: u32) -> Self {
        Self { queue, lane, over: false }
    }

    /// Wakes who is late until nobody waits. `sleep` lasts until the first one is.
    ///
    /// It is not told of calls that leave: it wakes when the first would have been late, looks who is first now, and ends if
    /// there is none. So one task is started for each time that the timeout takes, at the most, and not one for each call.
    pub(super) async fn run(mut self, mut sleep: Pin<Box<Sleep>>) {
        loop {
            sleep.as_mut().await;
            // What the timer takes for past is past.
            let now = Instant::now().max(sleep.deadline());
            let Some(next) = self.wake(Some(now)) else { return };
            sleep.as_mut().reset(next);
        }
    }

    /// Wakes those who are late by then, or all; tells when the next one is.
    fn wake(&mut self, late_by: Option<Instant>) -> Option<Instant> {
        loop {
            let mut wakers = [const { None }; BATCH];
            let next = self.queue.take(self.lane, late_by, &mut wakers);
            self.over = matches!(next, Next::Nobody);
            // Without the lock: a waker may do anything.
            wakers.into_iter().flatten().for_each(wake);
            match next {
                Next::More => {}
                Next::At(deadline) => return Some(deadline),
                Next::Nobody => return None,
            }
        }
    }
}

impl Drop for Janitor {
    /// The runtime has gone, or everybody who could wait has. Whoever waits has to see to itself.
    fn drop(&mut self) {
        if !self.over {
            self.wake(None);
        }
    }
}

/// One that panics must not keep the others from being woken.
fn wake(waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        tracing::error!("a waker panicked");
        // It may be anything, such as something that panics when it is dropped.
        std::mem::forget(panic);
    }
}
