use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{BusError, Result, caught};

/// How long a call in the background may take. Without a limit, a bus that neither answers nor fails would block the
/// loop that called it for good.
const ANSWER: Duration = Duration::from_secs(30);

/// As good as never, and far from where an [`Instant`] overflows.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Awaits the answer to a call, but not for ever.
pub(super) async fn in_time<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match timeout(ANSWER, caught(operation, call)).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(BusError::new(operation, elapsed)),
    }
}

/// The moment `wait` from now, however long that is.
pub(super) fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(FAR)
}

/// How long to wait before the bus is tried again: twice as long each time.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    pub(super) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }

    pub(super) const fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// What went well for longer than this was no trouble.
    pub(super) const fn longest() -> Duration {
        Self::LONGEST
    }
}
