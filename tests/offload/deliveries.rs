//! Deliveries that hang, and what they take from others.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tower_offload::manager::{BoxError, Ended, Refused};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus};

use crate::support::{SECOND, run_ready, secs};

/// Hands over a call of a user that is done at once then, and whose delivery never is.
async fn offload(manager: &TaskManager, user: &'static str) {
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(move |_: &()| Some(TaskMeta::new(user, "work")))
        .respond(|_: &TaskRecord| ())
        .deliver(|_: TaskRecord, _: Ended<Result<(), Infallible>>| pending::<Result<(), BoxError>>());
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(2)).await;
        Ok::<_, Infallible>(())
    }));
    service.oneshot(()).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    run_ready().await;
}

fn register(manager: &TaskManager, user: &str) -> Result<(), Refused> {
    manager.spawn(TaskMeta::new(user, "work"), async {}).map(drop).map_err(|rejected| rejected.refused())
}

#[tokio::test(start_paused = true)]
async fn they_count_for_their_user() {
    // With records that go at once, and ones that stay.
    for retained in [0, 50] {
        let manager = TaskManager::builder()
            .max_running(10)
            .max_running_per_user(3)
            .max_retained_per_user(retained)
            .build();
        for _ in 0..3 {
            offload(&manager, "alice").await;
        }
        assert_eq!(manager.health().waiting_results, 3);
        assert_eq!(register(&manager, "alice"), Err(Refused::TooManyRunningForUser));
        assert_eq!(register(&manager, "bob"), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn they_end_at_their_limit_and_give_their_places_back() {
    let manager = TaskManager::builder().max_running_per_user(1).max_delivery_time(secs(60)).build();
    offload(&manager, "alice").await;
    tokio::time::sleep(secs(50)).await;
    assert_eq!(register(&manager, "alice"), Err(Refused::TooManyRunningForUser));
    tokio::time::sleep(secs(20)).await;
    assert_eq!(register(&manager, "alice"), Ok(()));
    let stats = manager.stats();
    assert_eq!((stats.undelivered, manager.health().waiting_results), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_them() {
    let manager = TaskManager::builder().max_delivery_time(None).build();
    offload(&manager, "alice").await;
    let report = manager.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.unsettled, report.undelivered), (0, 1));
    let stats = manager.stats();
    assert_eq!((stats.active, stats.undelivered, stats.completed), (0, 1, 1));
    let list = manager.list(&tower_offload::task::Scope::user("alice")).await.unwrap();
    assert_eq!(list[0].status, TaskStatus::Completed);
}
