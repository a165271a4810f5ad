use std::time::Duration;

use super::super::SharedBus;
use super::Wakeups;
use super::pump::Options;

/// Shorter pauses would be none.
const SHORTEST: Duration = Duration::from_millis(1);

/// Builds a [`Wakeups`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct WakeupsBuilder {
    bus: SharedBus,
    options: Options,
}

impl WakeupsBuilder {
    pub(super) const fn new(bus: SharedBus) -> Self {
        let options = Options {
            batch: 64,
            max_kept: 1_024,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            poll: Duration::from_secs(30),
        };
        Self { bus, options }
    }

    /// How many wakeups to take from the queue at a time; 64 by default, at least 1.
    ///
    /// A host that runs one session after the other, and is not alone, takes 1: then nothing waits here for its run
    /// to end.
    pub const fn batch(mut self, wakeups: usize) -> Self {
        self.options.batch = if wakeups == 0 { 1 } else { wakeups };
        self
    }

    /// How many wakeups of busy sessions to keep; 1,024 by default, at least 1. Those beyond go back to the end of the
    /// queue.
    pub const fn max_kept(mut self, wakeups: usize) -> Self {
        self.options.max_kept = if wakeups == 0 { 1 } else { wakeups };
        self
    }

    /// How long to leave a busy session alone: first, and at most. Default: 100 ms and 5 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.options.first_pause = first.max(SHORTEST);
        self.options.longest_pause = longest.max(self.options.first_pause);
        self
    }

    /// How often to look into the queue without a signal, in case a signal was lost; 30 s by default.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.options.poll = interval.max(SHORTEST);
        self
    }

    /// Starts, on the current runtime. This does not wait for the bus, and it does not matter whether it is there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> Wakeups {
        Wakeups::new(self.bus, self.options)
    }
}
