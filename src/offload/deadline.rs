use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::manager::poll_timer;

pin_project! {
    /// When a call is late. Costs nothing until it is polled: no clock, no timer.
    #[derive(Debug, Default)]
    #[project = Projected]
    pub(super) enum Deadline {
        #[default]
        Unset,
        // Nobody can wait that long.
        Never,
        Armed { #[pin] sleep: Sleep },
    }
}

impl Deadline {
    /// Ready when `timeout` has passed since the first poll. `timeout` is asked at the first poll only.
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        timeout: impl FnOnce() -> Duration,
    ) -> Poll<()> {
        if let Self::Unset = *self {
            let timeout = timeout();
            self.set(match timeout {
                Duration::MAX => Self::Never,
                timeout => Self::Armed { sleep: tokio::time::sleep(timeout) },
            });
        }
        match self.project() {
            Projected::Unset | Projected::Never => Poll::Pending,
            Projected::Armed { sleep } => poll_timer(sleep, cx),
        }
    }
}
