//! Dropping a call: before the deadline, after it, and before it has begun.

use std::convert::Infallible;

use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::offload::OnDisconnect;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus, cancellation_token};

use crate::support::{Alive, Deliveries, SECOND, alice, meta, only, run_ready, secs};

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    deliveries: Deliveries<&'static str>,
    service: tower::util::BoxCloneService<u64, &'static str, Infallible>,
}

fn fixture(manager: TaskManager, on_disconnect: OnDisconnect) -> Fixture {
    let (alive, deliveries) = (Alive::default(), Deliveries::new());
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &u64| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .deliver(deliveries.hook())
        .on_disconnect(on_disconnect);
    let watched = alive.clone();
    let service = layer.layer(service_fn(move |seconds| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            tokio::time::sleep(secs(seconds)).await;
            Ok("done")
        }
    }));
    Fixture { manager, alive, deliveries, service: tower::util::BoxCloneService::new(service) }
}

#[tokio::test(start_paused = true)]
async fn before_the_deadline_the_work_is_dropped() {
    let Fixture { manager, alive, service, .. } = fixture(TaskManager::new(), OnDisconnect::Cancel);
    let call = tokio::time::timeout(SECOND / 2, service.oneshot(60));
    assert!(call.await.is_err());
    assert_eq!((alive.count(), manager.stats().admitted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn before_the_deadline_its_token_is_cancelled() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ());
    let mut service = layer.layer(service_fn(move |()| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            sender.send(cancellation_token()).unwrap();
            std::future::pending::<Result<(), Infallible>>().await
        }
    }));
    let call = tokio::spawn(service.ready().await.unwrap().call(()));
    let token = receiver.await.unwrap();
    assert!(!token.is_cancelled());
    call.abort();
    token.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn before_the_deadline_the_work_is_handed_over_if_the_layer_is_told_so() {
    let Fixture { manager, alive, deliveries, service } = fixture(TaskManager::new(), OnDisconnect::HandOver);
    assert!(tokio::time::timeout(SECOND / 2, service.oneshot(60)).await.is_err());
    let task = only(&manager).await;
    assert_eq!((task.status, alive.count()), (TaskStatus::Running, 1));
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(task.status, TaskStatus::Completed);
    run_ready().await;
    assert_eq!(deliveries.one().1.returned(), Some(Ok("done")));
}

#[tokio::test(start_paused = true)]
async fn handed_over_or_dropped_but_never_neither() {
    let manager = TaskManager::builder().max_running(0).build();
    let Fixture { manager, alive, service, .. } = fixture(manager, OnDisconnect::HandOver);
    assert!(tokio::time::timeout(SECOND / 2, service.oneshot(60)).await.is_err());
    let stats = manager.stats();
    assert_eq!((alive.count(), stats.refused, stats.running), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_has_not_begun() {
    let Fixture { manager, alive, mut service, .. } = fixture(TaskManager::new(), OnDisconnect::HandOver);
    drop(service.ready().await.unwrap().call(60));
    assert_eq!((alive.count(), manager.stats().admitted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panicked_is_not_handed_over() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), secs(9))
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .on_disconnect(OnDisconnect::HandOver);
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(SECOND).await;
        panic!("boom");
        #[expect(unreachable_code, reason = "it says the type")]
        Ok::<_, Infallible>(())
    }));
    assert!(tokio::spawn(service.oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_panics_hands_nothing_over() {
    let Fixture { manager, alive, service, .. } = fixture(TaskManager::new(), OnDisconnect::HandOver);
    let caller = tokio::spawn(async move {
        let mut call = Box::pin(service.oneshot(60));
        assert!(futures_util::poll!(&mut call).is_pending());
        panic!("the caller panics");
    });
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!((alive.count(), manager.stats().admitted), (0, 0));
}

/// A description that panics.
struct NoWords;

impl tower_offload::offload::OffloadCall for NoWords {
    fn meta(&self) -> tower_offload::TaskMeta {
        panic!("no words")
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_panics_takes_its_call_along_and_nothing_panics_on_top_of_that() {
    let manager = TaskManager::new();
    let alive = Alive::default();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(NoWords))
        .respond(|_: &TaskRecord| ())
        .on_disconnect(OnDisconnect::HandOver);
    let watched = alive.clone();
    let service = layer.layer(service_fn(move |()| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), Infallible>>().await
        }
    }));
    for panics in [true, false] {
        let mut call = Box::pin(service.clone().oneshot(()));
        let caller = tokio::spawn(async move {
            assert!(futures_util::poll!(&mut call).is_pending());
            assert!(!panics, "the caller panics");
        });
        assert_eq!(caller.await.is_err(), panics, "the hook's panic stays inside");
        assert_eq!((alive.count(), manager.stats().admitted), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answered_call_is_not_handed_over() {
    let Fixture { manager, mut service, .. } = fixture(TaskManager::new(), OnDisconnect::HandOver);
    let mut call = service.ready().await.unwrap().call(0);
    assert_eq!((&mut call).await, Ok("done"));
    drop(call);
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn after_the_deadline_the_task_lives_on() {
    for on_disconnect in [OnDisconnect::Cancel, OnDisconnect::HandOver] {
        let Fixture { manager, mut service, .. } = fixture(TaskManager::new(), on_disconnect);
        let mut call = service.ready().await.unwrap().call(60);
        assert_eq!((&mut call).await, Ok("placeholder"));
        drop(call);
        drop(service);
        let task = only(&manager).await;
        let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
        assert_eq!(task.status, TaskStatus::Completed);
        assert_eq!(manager.stats().admitted, 1);
    }
}
