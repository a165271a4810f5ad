use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// Polls a timer, and the clock beside it.
///
/// A timer answers `Pending` without a look at the clock when the future that was polled before it has used up the
/// cooperative budget of the task. Behind a future that is always busy it would never fire.
///
/// A timer belongs to the runtime that made it: polling it after that runtime has ended panics. A worker makes its timers
/// on the runtime that polls it, and ends with that runtime.
pub(super) fn poll_timer(mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if sleep.as_mut().poll(cx).is_ready() || Instant::now() >= sleep.deadline() {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}
