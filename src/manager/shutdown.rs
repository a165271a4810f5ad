use std::fmt;
use std::time::Duration;

use super::TaskManager;
use super::mirror::Mirror;
use super::shared::Shared;
use super::stats::Counters;
use crate::bus::{self, SharedBus};
use crate::panics;

/// How long a shutdown waits for what it has cancelled, beyond the grace time for cancelling.
const SETTLE: Duration = Duration::from_secs(5);

/// What became of the tasks that ran when a shutdown began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// They completed within the grace time.
    pub completed: usize,
    /// They failed.
    pub failed: usize,
    /// They were cancelled, by the shutdown or by a stop request in the meantime.
    pub cancelled: usize,
    /// They still run: their future cannot be dropped because it does not return from its poll.
    pub unsettled: usize,
    /// They ended, and their result was not delivered: the delivery failed, was given up, or still waits for a
    /// [shared](crate::bus::MessageBus::is_shared) bus. Or they have nothing to deliver, and their end cannot be written to such
    /// a bus.
    pub undelivered: usize,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, cancelled, unsettled, undelivered } = self;
        write!(
            f,
            "{completed} completed, {failed} failed, {cancelled} cancelled, \
             {unsettled} unsettled, {undelivered} undelivered"
        )
    }
}

/// How long deliveries that are given up may take to go.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How long to try to end the lease of the process.
const LEAVE: Duration = Duration::from_secs(1);

impl TaskManager {
    /// Ends the manager in good order, and says what became of the tasks that ran.
    ///
    /// 1. Nothing more is admitted: later calls stay in the foreground.
    /// 2. Running tasks and deliveries have `grace` to end by themselves, and to be written to a bus that is shared.
    /// 3. What still runs is cancelled, with the grace time of the builder, and settled as `cancelled` with the
    ///    reason `shutdown`. A future that blocks its thread cannot be dropped; it is given five more seconds and
    ///    then counted as unsettled. Deliveries have the same time; then those that
    ///    are under way are dropped and counted as undelivered. What waits for a bus that is away goes on waiting for it.
    /// 4. When all is settled, and written to a bus that is shared, the lease of the process ends.
    ///
    /// The tables stay readable. It may be called again, also at the same time, and then waits for the same
    /// tasks. Dropping the returned future leaves the manager closed, and what was not cancelled yet running.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its time driver.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let shared = &self.shared;
        let before = {
            let mut table = shared.table();
            table.closed = true;
            table.counters
        };
        if tokio::time::timeout(grace, shared.idle()).await.is_err() {
            shared.request_shutdown();
            let settle = shared.limits.cancel_grace.saturating_add(SETTLE);
            if tokio::time::timeout(settle, shared.idle()).await.is_err() {
                shared.give_up.notify_waiters();
                // What does not return from its poll is counted below.
                let _ = tokio::time::timeout(GIVE_UP, shared.idle()).await;
            }
        }
        let (after, running, unpublished, delivering) = shared.left();
        // While something still runs or waits, the lease goes on.
        if let Some(mirror) = shared.mirror.as_ref().filter(|_| running + delivering == 0) {
            shared.keeper.stop();
            leave(mirror, &shared.bus).await;
        }
        let since = |count: fn(&Counters) -> u64| (count(&after) - count(&before)) as usize;
        let report = ShutdownReport {
            completed: since(|counters| counters.completed),
            failed: since(|counters| counters.failed),
            cancelled: since(|counters| counters.cancelled),
            unsettled: running - unpublished,
            undelivered: unpublished + delivering + since(|counters| counters.undelivered),
        };
        panics::quietly(|| tracing::info!(%report, "task manager shut down"));
        report
    }
}

impl Shared {
    /// What there is at the end of a shutdown: the counters, and how many tasks run, of them how many only for want of a
    /// publication, and how many deliveries there are.
    fn left(&self) -> (Counters, usize, usize, usize) {
        let table = self.table();
        (table.counters, table.running(), table.unpublished().ends, table.delivering())
    }
}

/// The process goes in good order: nothing of it is left to be lost.
async fn leave(mirror: &Mirror, bus: &SharedBus) {
    let leave = bus::caught("end the lease", async { bus.leave(mirror.owner()).await });
    match tokio::time::timeout(LEAVE, leave).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panics::quietly(|| tracing::debug!(%error, "the lease ends with its time")),
        Err(_) => panics::quietly(|| tracing::debug!("the lease ends with its time")),
    }
}
