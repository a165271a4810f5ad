//! Ending in good order.

use std::sync::mpsc;

use tower_offload::manager::Refused;
use tower_offload::task::FailureReason;
use tower_offload::{TaskManager, TaskStatus, cancellation_token};

use crate::support::{SECOND, alice, list, meta, secs};

#[tokio::test(start_paused = true)]
async fn it_waits_then_cancels_and_says_what_became_of_each() {
    let manager = TaskManager::builder().cancel_grace(secs(2)).build();
    manager.spawn(meta(), tokio::time::sleep(secs(5))).unwrap();
    manager.spawn(meta(), async { Err::<(), _>("no") }).unwrap();
    manager.spawn(meta(), tokio::time::sleep(secs(3600))).unwrap();
    // In good order, within the grace time for cancelling.
    manager
        .spawn(meta(), async {
            cancellation_token().cancelled().await;
            tokio::time::sleep(SECOND).await;
        })
        .unwrap();
    let start = tokio::time::Instant::now();
    let report = manager.shutdown(secs(10)).await;
    assert_eq!(start.elapsed(), secs(12));
    assert_eq!(
        (report.completed, report.failed, report.cancelled, report.unsettled, report.undelivered),
        (2, 1, 1, 0, 0)
    );
    assert_eq!(report.to_string(), "2 completed, 1 failed, 1 cancelled, 0 unsettled, 0 undelivered");
    let tasks = list(&manager, &alice()).await;
    assert_eq!(tasks[2].status, TaskStatus::Cancelled);
    assert_eq!(tasks[2].failure_reason, Some(FailureReason::Shutdown));
    assert_eq!((tasks[3].status, tasks[3].failure_reason), (TaskStatus::Completed, None));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_once_it_has_begun() {
    let manager = TaskManager::new();
    manager.spawn(meta(), tokio::time::sleep(secs(5))).unwrap();
    let shutdown = tokio::spawn({
        let manager = manager.clone();
        async move { manager.shutdown(secs(60)).await }
    });
    crate::support::run_ready().await;
    let rejected = manager.spawn(meta(), async {}).unwrap_err();
    assert_eq!(rejected.refused(), Refused::ShuttingDown);
    let start = tokio::time::Instant::now();
    assert_eq!(shutdown.await.unwrap().completed, 1);
    assert!(start.elapsed() <= secs(5), "it does not wait longer than it has to");
}

#[tokio::test(start_paused = true)]
async fn it_can_be_asked_for_twice() {
    let manager = TaskManager::new();
    manager.spawn(meta(), tokio::time::sleep(secs(50))).unwrap();
    let (first, second) = tokio::join!(manager.shutdown(secs(10)), manager.shutdown(secs(10)));
    assert_eq!((first.cancelled, second.cancelled), (1, 1));
    assert_eq!(manager.shutdown(secs(10)).await, tower_offload::manager::ShutdownReport::default());
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_deliveries() {
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    let manager = TaskManager::new();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let layer = tower_offload::OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &u64| Some(meta()))
        .respond(|_: &tower_offload::TaskRecord| 0)
        .deliver(move |_, ended: tower_offload::manager::Ended<Result<u64, std::convert::Infallible>>| {
            let sender = sender.clone();
            async move {
                let Ok(seconds) = ended.returned().unwrap_or(Ok(0));
                tokio::time::sleep(secs(seconds)).await;
                sender.send(seconds)?;
                Ok(())
            }
        });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |seconds| {
        // Not at the moment at which the next call is late.
        tokio::time::sleep(secs(3)).await;
        Ok(seconds)
    }));
    for seconds in [5, 3600] {
        service.clone().oneshot(seconds).await.unwrap();
    }
    let report = manager.shutdown(secs(30)).await;
    assert_eq!((report.completed, report.undelivered), (2, 1));
    assert_eq!(receiver.recv().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn what_blocks_its_thread_is_reported_and_not_called_cancelled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let manager = TaskManager::builder().runtime(runtime.handle().clone()).build();
    let (release, blocked) = mpsc::channel::<()>();
    let (started, wait) = mpsc::channel();
    manager
        .spawn(meta(), async move {
            started.send(()).unwrap();
            // Not how one writes a future, and the manager has to live with it.
            blocked.recv().map_err(|_| "released")
        })
        .unwrap();
    wait.recv().unwrap();
    let report = manager.shutdown(secs(10)).await;
    assert_eq!((report.unsettled, report.cancelled), (1, 0));
    let task = crate::support::only(&manager).await;
    assert_eq!(task.status, TaskStatus::Running, "its future is not gone");
    assert!(task.cancel_requested_at.is_some());
    drop(release);
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((task.status, task.error_summary.as_deref()), (TaskStatus::Failed, Some("released")));
    runtime.shutdown_background();
}
