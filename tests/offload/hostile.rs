//! User code that panics where others depend on it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tower::{Layer, ServiceExt, service_fn};
use tower_offload::manager::{BoxError, Ended, TaskChanges};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus};

use crate::support::{SECOND, alice, meta, only, run_ready, secs};

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// A panic payload that panics when it is dropped, with such a payload again.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

/// Waits for the next change with a waker that panics.
fn waiting(changes: &mut TaskChanges) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    let mut waiting = Box::pin(async { drop(changes.recv().await) });
    let waker = Waker::from(Arc::new(Panics));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    waiting
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_loses_neither_a_start_nor_an_end_nor_a_delivery() {
    let manager = TaskManager::new();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &()| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .deliver(move |task: TaskRecord, _: Ended<Result<&'static str, Infallible>>| {
            let sent = sender.send(task.id).map_err(BoxError::from);
            async move { sent }
        });
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>("late")
    }));
    let (mut at_start, mut at_end) = (manager.subscribe(alice()), manager.subscribe(alice()));
    let start = waiting(&mut at_start);
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
    drop(start);
    let task = only(&manager).await;
    assert_eq!(task.status, TaskStatus::Running);

    // Past the change of the start.
    at_end.recv().await.unwrap();
    let end = waiting(&mut at_end);
    let scope = alice();
    let mut wait = Box::pin(manager.wait(&scope, task.id));
    let waker = Waker::from(Arc::new(Panics));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let ended = manager.wait(&scope, task.id).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Completed);
    drop((end, wait));
    assert_eq!(receiver.recv().await, Some(task.id));
    run_ready().await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_destructor_panics_is_counted_once() {
    struct Dropped(bool);
    impl Future for Dropped {
        type Output = Result<(), BoxError>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> std::task::Poll<Self::Output> {
            if self.0 { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
        }
    }
    impl Drop for Dropped {
        fn drop(&mut self) {
            panic!("a delivery that panics when it is dropped");
        }
    }
    let manager = TaskManager::builder().max_delivery_time(secs(5)).build();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &bool| Some(meta()))
        .respond(|_: &TaskRecord| true)
        .deliver(|_: TaskRecord, ended: Ended<Result<bool, Infallible>>| {
            Dropped(ended.returned().is_some_and(|returned| returned == Ok(true)))
        });
    let service = layer.layer(service_fn(async |done| {
        tokio::time::sleep(secs(3)).await;
        Ok::<_, Infallible>(done)
    }));
    // One answers and then panics, the other one is dropped at its limit.
    service.clone().oneshot(true).await.unwrap();
    service.oneshot(false).await.unwrap();
    tokio::time::sleep(secs(3)).await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (1, 1));
    tokio::time::sleep(secs(10)).await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_delivery_that_panics_when_it_is_dropped_costs_its_own_delivery_only() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("away")
        }
    }
    impl std::error::Error for Bad {}
    impl Drop for Bad {
        fn drop(&mut self) {
            std::panic::panic_any(Payload);
        }
    }
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(|_: TaskRecord, _: Ended<Result<(), Infallible>>| async { Err::<(), BoxError>(Bad.into()) });
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>(())
    }));
    service.oneshot(()).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_panics_when_it_is_dropped_costs_its_own_task_only() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(|_: TaskRecord, _: Ended<Result<(), Infallible>>| async {
            std::panic::panic_any(Payload);
            #[expect(unreachable_code, reason = "says the type")]
            Ok::<(), BoxError>(())
        });
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        std::panic::panic_any(Payload);
        #[expect(unreachable_code, reason = "says the type")]
        Ok::<(), Infallible>(())
    }));
    service.oneshot(()).await.unwrap();
    let task = only(&manager).await;
    let ended = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.error_summary.as_deref()), (TaskStatus::Failed, Some("panicked")));
    run_ready().await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 1));
}
