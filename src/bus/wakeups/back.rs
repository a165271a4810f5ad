use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::carried::Carry;
use super::super::message::Wakeup;
use super::super::trouble::{Backoff, after, in_time};
use super::super::{BusError, MessageBus, Result, SharedBus, keys};

/// For how long a push in the background is tried again: it has no caller to return an error to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Wakeups on their way back to the queue.
#[derive(Debug, Default)]
pub(super) struct Back {
    wakeups: VecDeque<Wakeup>,
    /// Something was pushed, and the signal for it is not sent yet.
    signal: bool,
}

impl Back {
    pub(super) fn is_done(&self) -> bool {
        self.wakeups.is_empty() && !self.signal
    }

    pub(super) fn add(&mut self, wakeup: Wakeup) {
        self.wakeups.push_back(wakeup);
    }

    /// Pushes and signals. What could not be pushed is still here; a second call goes on where the first one failed,
    /// so that nothing is lost, and what was pushed without an answer is pushed twice.
    pub(super) async fn push(&mut self, bus: &dyn MessageBus) -> Result<()> {
        while let Some(wakeup) = self.wakeups.front() {
            let operation = "put a wakeup back";
            let entry = serde_json::to_string(wakeup).map_err(|error| BusError::new(operation, error))?;
            in_time(operation, bus.push(keys::WAKEUPS, &entry, None)).await?;
            self.wakeups.pop_front();
            self.signal = true;
        }
        if self.signal {
            in_time("signal a wakeup", bus.publish(keys::WAKEUP_SIGNAL, "{}")).await?;
            self.signal = false;
        }
        Ok(())
    }

    /// Pushes and signals, and tries again for a while.
    pub(super) async fn push_patiently(&mut self, bus: &dyn MessageBus) -> Result<()> {
        let give_up = after(PATIENCE);
        let mut backoff = Backoff::new();
        while !self.is_done() {
            let Err(error) = self.push(bus).await else { break };
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lost = self.wakeups.len();
                tracing::error!(%error, lost, "wakeups were not put back into the queue");
                return Err(error);
            }
            tracing::warn!(%error, "wakeups are not back in the queue yet");
            sleep(backoff.pause().min(left)).await;
        }
        Ok(())
    }
}

/// A wakeup that goes back when its [`Wakeups`](super::Wakeups) is gone.
pub(super) struct PutBack {
    back: Back,
    bus: SharedBus,
}

impl PutBack {
    pub(super) fn new(wakeup: Wakeup, bus: SharedBus) -> Self {
        let mut back = Back::default();
        back.add(wakeup);
        Self { back, bus }
    }
}

impl Carry for PutBack {
    type Output = ();

    async fn run(&mut self) {
        // Whether it could be done is logged; the caller has gone on.
        let _ = self.back.push_patiently(&*self.bus).await;
    }
}

impl Extend<Wakeup> for Back {
    fn extend<I: IntoIterator<Item = Wakeup>>(&mut self, wakeups: I) {
        self.wakeups.extend(wakeups);
    }
}
