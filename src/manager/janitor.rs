//! Drops the records that have expired, also when no call reads them.

use std::sync::Weak;
use std::time::Duration;

use super::shared::{BoxedLoop, Shared};

/// Sleeps until the oldest finished record expires. Ends when there is none.
pub(super) fn run(shared: Weak<Shared>) -> BoxedLoop {
    Box::pin(async move {
        while let Some(wait) = expire(&shared) {
            if wait.is_zero() {
                // More records have expired than one batch drops.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    })
}

fn expire(shared: &Weak<Shared>) -> Option<Duration> {
    let shared = shared.upgrade()?;
    let clock = shared.clock();
    let due = shared.table().expire(&shared.limits, clock)?;
    Some(Duration::from_millis(due.saturating_sub(clock)))
}
