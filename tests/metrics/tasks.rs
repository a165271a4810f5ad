//! Tasks that are no calls, and tasks that several processes know.

use std::sync::Arc;

use tower_offload::bus::{MemoryBus, SharedBus};
use tower_offload::{TaskManager, TaskStatus};

use super::*;
use crate::flaky_bus::FlakyBus;
use crate::support::{alice, run_ready, secs};

#[tokio::test]
async fn a_future_of_ones_own_counts_as_offloaded() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let task = manager.spawn(meta(), std::future::ready(())).unwrap();
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1)]);
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    counts.assert(&[(OFFLOADED, 1), (COMPLETED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_goes_on_is_not_a_task_that_runs() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &Does| Some(meta()))
        .respond(|_: &TaskRecord| "later")
        .deliver(async |_, _| std::future::pending().await);
    layer.layer(service_fn(work)).call(Does::Take(secs(2))).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(manager.stats().active, 1);
    counts.assert(&[(OFFLOADED, 1), (COMPLETED, 1), (TIMED, 1)]);
}

/// Two processes, and the way of the first one to the bus.
pub(crate) fn two() -> (Arc<FlakyBus>, TaskManager, TaskManager) {
    let inner = MemoryBus::builder().shared(true).build();
    let (bus, other) = (FlakyBus::on(inner.clone()), FlakyBus::on(inner));
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    (bus, manager, TaskManager::builder().bus(other as SharedBus).build())
}

/// A process that is taken for dead while it runs a task, and learns of it.
#[tokio::test(start_paused = true)]
async fn a_task_that_others_have_ended_is_settled_once_and_as_they_did() {
    let counts = Counts::new();
    let (bus, manager, other) = two();
    let works = manager.spawn(meta(), std::future::pending::<()>()).unwrap();
    let ends = manager.spawn(meta(), tokio::time::sleep(secs(17))).unwrap();
    run_ready().await;
    bus.disconnect();
    tokio::time::sleep(secs(16)).await;
    let seen = other.list(&alice()).await.unwrap();
    assert_eq!(seen.iter().map(|task| task.id).collect::<Vec<_>>(), [works.id, ends.id]);
    assert!(seen.iter().all(|task| task.status == TaskStatus::Failed), "{seen:?}");
    // The other process never ran them, and this one does not know yet.
    counts.assert(&[(OFFLOADED, 2), (RUNS, 2)]);
    // One ends by itself before that. Other processes cannot see it, so it does not count yet.
    tokio::time::sleep(secs(2)).await;
    counts.assert(&[(OFFLOADED, 2), (RUNS, 2)]);
    bus.reconnect();
    tokio::time::sleep(secs(3)).await;
    run_ready().await;
    let stats = manager.stats();
    // The work that was stopped is late.
    assert_eq!((stats.running, stats.active, stats.late), (0, 0, 1));
    counts.assert(&[(OFFLOADED, 2), (FAILED, 2)]);
}
