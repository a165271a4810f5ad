use std::fmt;
use std::time::Duration;

use super::TaskManager;
use super::stats::Counters;

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
    /// They were cancelled, by the shutdown or by somebody else in the meantime.
    pub cancelled: usize,
    /// They still run: their future cannot be dropped because it does not return from its poll.
    pub unsettled: usize,
    /// They ended, but their result is still being delivered.
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

impl TaskManager {
    /// Ends the manager in good order, and says what became of the tasks that ran.
    ///
    /// 1. Nothing more is admitted: later calls stay in the foreground.
    /// 2. Running tasks and deliveries have `grace` to end by themselves.
    /// 3. What still runs is cancelled, with the grace time of the builder, and settled as `cancelled` with the
    ///    reason `shutdown`. A future that blocks its thread cannot be dropped; it is given five more seconds and
    ///    then counted as unsettled.
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
            // Who is late is counted below.
            let _ = tokio::time::timeout(settle, shared.idle()).await;
        }
        let (after, unsettled, undelivered) = {
            let table = shared.table();
            (table.counters, table.running(), table.delivering)
        };
        // While something still runs or waits, the lease goes on.
        if let Some(mirror) = shared.mirror.as_ref().filter(|_| unsettled + undelivered == 0) {
            mirror.leave(&shared.bus).await;
        }
        let since = |count: fn(&Counters) -> u64| (count(&after) - count(&before)) as usize;
        let report = ShutdownReport {
            completed: since(|counters| counters.completed),
            failed: since(|counters| counters.failed),
            cancelled: since(|counters| counters.cancelled),
            unsettled,
            undelivered,
        };
        tracing::info!(%report, "task manager shut down");
        report
    }
}
