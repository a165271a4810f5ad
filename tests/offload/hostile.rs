//! User code that panics where others depend on it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
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

#[tokio::test(start_paused = true)]
async fn a_describer_that_panics_costs_neither_its_call_nor_those_of_others() {
    // The task of the buffer calls the service for all callers: a panic in the call would end it.
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|panics: &bool| {
            assert!(!panics, "a describer that panics");
            Some(meta())
        })
        .respond(|_: &TaskRecord| "a task");
    let service = ServiceBuilder::new().buffer(8).layer(layer).service(service_fn(async |_: bool| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>("done")
    }));
    assert_eq!(service.clone().oneshot(true).await.unwrap(), "done");
    assert_eq!(manager.stats().admitted, 0, "the panicking describer has described nothing");
    assert_eq!(service.oneshot(false).await.unwrap(), "a task");
}

/// A subscriber that cannot say which span is the current one.
struct NoSpan;

impl tracing::Subscriber for NoSpan {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        false
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
    fn current_span(&self) -> tracing_core::span::Current {
        panic!("a subscriber that panics")
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_knows_no_span_loses_no_call() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .on_disconnect(tower_offload::offload::OnDisconnect::HandOver);
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>(())
    }));
    let _subscriber = tracing::subscriber::set_default(NoSpan);
    // Handed over at the deadline, and in the destructor of a call whose caller leaves.
    service.clone().oneshot(()).await.unwrap();
    assert!(tokio::time::timeout(SECOND / 2, service.oneshot(())).await.is_err());
    assert_eq!(manager.stats().running, 2);
    tokio::time::sleep(secs(5)).await;
    run_ready().await;
    assert_eq!(manager.stats().completed, 2);
}
