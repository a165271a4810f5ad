//! One layer over another: an HTTP layer around a tool layer, say. There is one piece of work, and one task.

use std::convert::Infallible;
use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::offload::OnDisconnect;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus, cancellation_token};

use crate::support::{Alive, Deliveries, SECOND, alice, only, run_ready, secs};

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    deliveries: Deliveries<&'static str>,
    service: tower::util::BoxCloneService<(), &'static str, Infallible>,
}

/// Work of a minute, which ends at once when it is told to.
fn fixture(manager: TaskManager, outer: u64, inner: u64, on_disconnect: OnDisconnect) -> Fixture {
    let (alive, deliveries) = (Alive::default(), Deliveries::new());
    let layer = |name: &'static str, timeout: Duration| {
        OffloadLayer::new(manager.clone(), timeout)
            .describe(move |(): &()| Some(TaskMeta::new("alice", name)))
            .respond(|_: &TaskRecord| "placeholder")
            .deliver(deliveries.hook())
            .on_disconnect(on_disconnect)
    };
    let watched = alive.clone();
    let service = ServiceBuilder::new()
        .layer(layer("outer", secs(outer)))
        .layer(layer("inner", secs(inner)))
        .service(service_fn(move |()| {
            let guard = watched.guard();
            async move {
                let _guard = guard;
                let told = cancellation_token();
                Ok(match told.run_until_cancelled(tokio::time::sleep(secs(60))).await {
                    Some(()) => "done",
                    None => "told",
                })
            }
        }));
    Fixture {
        alive,
        deliveries: deliveries.clone(),
        service: tower::util::BoxCloneService::new(service),
        manager,
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_is_late_hands_over_and_there_is_one_task() {
    for (outer, inner) in [(10, 20), (20, 10), (10, 10)] {
        let fixture = fixture(TaskManager::new(), outer, inner, OnDisconnect::Cancel);
        let start = tokio::time::Instant::now();
        assert_eq!(fixture.service.oneshot(()).await, Ok("placeholder"));
        assert_eq!(start.elapsed(), secs(10));
        let task = only(&fixture.manager).await;
        assert_eq!(task.meta.tool_name(), if outer < inner { "outer" } else { "inner" });
        fixture.manager.wait(&alice(), task.id).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), secs(60));
        run_ready().await;
        assert_eq!(fixture.deliveries.one().1.returned(), Some(Ok("done")));
        assert_eq!(fixture.manager.stats().admitted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_outer_one_reaches_the_work() {
    for grace in [0, 30] {
        let manager = TaskManager::builder().cancel_grace(secs(grace)).build();
        let fixture = fixture(manager, 10, 20, OnDisconnect::Cancel);
        fixture.service.oneshot(()).await.unwrap();
        let task = only(&fixture.manager).await;
        let start = tokio::time::Instant::now();
        fixture.manager.stop(&alice(), task.id).await.unwrap();
        fixture.manager.wait(&alice(), task.id).await.unwrap().unwrap();
        run_ready().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(fixture.deliveries.one().1.returned(), Some(Ok("told")));
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_work_is_not_taken_for_a_caller_who_left() {
    let manager = TaskManager::builder().max_run_time(secs(5)).build();
    let layer = |name: &'static str, timeout| {
        OffloadLayer::new(manager.clone(), secs(timeout))
            .describe(move |(): &()| Some(TaskMeta::new("alice", name)))
            .respond(|_: &TaskRecord| "placeholder")
            .on_disconnect(OnDisconnect::HandOver)
    };
    let alive = Alive::default();
    let watched = alive.clone();
    let service = ServiceBuilder::new().layer(layer("outer", 1)).layer(layer("inner", 100)).service(
        service_fn(move |()| {
            let guard = watched.guard();
            async move {
                let _guard = guard;
                std::future::pending::<Result<&'static str, Infallible>>().await
            }
        }),
    );
    service.oneshot(()).await.unwrap();
    assert_eq!(manager.stop_all(&alice()).await.unwrap(), 1);
    run_ready().await;
    assert_eq!(only(&manager).await.status, TaskStatus::Cancelled);
    assert_eq!((alive.count(), manager.stats().running), (0, 0), "nothing runs on behind it");
}

#[tokio::test(start_paused = true)]
async fn once_the_inner_one_has_handed_over_the_outer_one_is_only_its_caller() {
    let fixture = fixture(TaskManager::new(), 20, 10, OnDisconnect::HandOver);
    let call = tokio::spawn(fixture.service.oneshot(()));
    tokio::time::sleep(secs(10) + SECOND).await;
    assert_eq!(call.await.unwrap(), Ok("placeholder"));
    let task = only(&fixture.manager).await;
    assert_eq!((task.meta.tool_name(), fixture.alive.count()), ("inner", 1));
}

/// The work in the middle of three layers is part of a task when the outer one has handed over, and so is the work in the
/// innermost one.
#[tokio::test(start_paused = true)]
async fn however_many_layers_there_are_there_is_one_task_and_all_of_it_is_told() {
    for stop in [false, true] {
        let manager = TaskManager::builder().cancel_grace(secs(30)).build();
        let deliveries = Deliveries::new();
        let layer = |name: &'static str, timeout: u64| {
            OffloadLayer::new(manager.clone(), secs(timeout))
                .describe(move |(): &()| Some(TaskMeta::new("alice", name)))
                .respond(|_: &TaskRecord| "placeholder")
                .deliver(deliveries.hook())
                .on_disconnect(OnDisconnect::HandOver)
        };
        let service = ServiceBuilder::new()
            .layer(layer("outer", 10))
            .layer(layer("middle", 20))
            .layer(layer("inner", 30))
            .service(service_fn(|()| async {
                tokio::time::sleep(secs(40)).await;
                // Asked for late: it is not too late to be told.
                if cancellation_token().is_cancelled() {
                    return Ok::<_, Infallible>("told");
                }
                tokio::time::sleep(secs(20)).await;
                Ok("done")
            }));
        assert_eq!(service.oneshot(()).await, Ok("placeholder"));
        let task = only(&manager).await;
        assert_eq!(task.meta.tool_name(), "outer");
        if stop {
            tokio::time::sleep(secs(25)).await;
            manager.stop(&alice(), task.id).await.unwrap();
        }
        manager.wait(&alice(), task.id).await.unwrap().unwrap();
        run_ready().await;
        assert_eq!(deliveries.one().1.returned(), Some(Ok(if stop { "told" } else { "done" })));
        assert_eq!(manager.stats().admitted, 1);
    }
}
