//! Drops what the time limit of the retention ends, also when nobody reads.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::shared::Shared;

impl Shared {
    /// One task that sleeps until the oldest finished record is due, and ends when there is none.
    pub(super) fn start_janitor(self: &Arc<Self>) {
        let Some(runtime) = self.runtime() else {
            self.table().janitor = false;
            return;
        };
        let janitor = runtime.spawn(Janitor { shared: Arc::downgrade(self), armed: true }.run());
        let mut slot = self.janitor.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(janitor.abort_handle());
    }
}

struct Janitor {
    shared: Weak<Shared>,
    /// It has not said itself that it ends.
    armed: bool,
}

impl Janitor {
    async fn run(mut self) {
        loop {
            let wait = {
                let Some(shared) = self.shared.upgrade() else { return };
                let clock = shared.clock();
                let mut table = shared.table();
                let Some(due) = table.expire(&shared.limits, clock) else {
                    table.janitor = false;
                    self.armed = false;
                    return;
                };
                Duration::from_millis(due.saturating_sub(clock))
            };
            if wait.is_zero() {
                // More is due than one batch.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

impl Drop for Janitor {
    /// A runtime that ends takes the janitor along; the next task that ends starts another.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.armed) {
            shared.table().janitor = false;
        }
    }
}
