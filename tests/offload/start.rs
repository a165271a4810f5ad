//! A call whose timeout has not begun: it still needs its caller, such as one that is sending an upload.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::offload::{OffloadCall, OnDisconnect};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

use crate::support::{Alive, SECOND, meta, only, run_ready, secs};

/// A call that may be handed over once its gate has been opened.
struct Gated(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Gated {
    fn new(mut gate: watch::Receiver<bool>) -> Self {
        Self(Box::pin(async move {
            gate.wait_for(|open| *open).await.unwrap();
        }))
    }
}

impl OffloadCall for Gated {
    fn meta(&self) -> TaskMeta {
        meta()
    }

    // A future that has ended must not be polled again: this panics if the layer does.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    open: watch::Sender<bool>,
    service: tower::util::BoxCloneService<oneshot::Receiver<()>, &'static str, Infallible>,
}

/// Work that lasts until it is told to end.
fn fixture(timeout: Duration, on_disconnect: OnDisconnect) -> Fixture {
    let (manager, alive, open) = (TaskManager::new(), Alive::default(), watch::Sender::new(false));
    let (watched, gate) = (alive.clone(), open.clone());
    let layer = OffloadLayer::new(manager.clone(), timeout)
        .describe(move |_: &oneshot::Receiver<()>| Some(Gated::new(gate.subscribe())))
        .respond(|_: &TaskRecord| "placeholder")
        .on_disconnect(on_disconnect);
    let service = layer.layer(service_fn(move |end: oneshot::Receiver<()>| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            drop(end.await);
            Ok("done")
        }
    }));
    Fixture { manager, alive, open, service: tower::util::BoxCloneService::new(service) }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_counts_from_the_start() {
    for limit in [Duration::ZERO, SECOND, secs(10)] {
        let Fixture { manager, open, service, .. } = fixture(limit, OnDisconnect::Cancel);
        let (_end, ended) = oneshot::channel();
        let mut call = tokio::spawn(service.oneshot(ended));
        assert!(timeout(secs(100), &mut call).await.is_err(), "its caller waits");
        assert_eq!(manager.stats().admitted, 0);
        let start = Instant::now();
        open.send_replace(true);
        assert_eq!(call.await.unwrap(), Ok("placeholder"));
        assert_eq!(start.elapsed(), limit);
        assert_eq!(only(&manager).await.meta.tool_name(), "work");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_start_the_answer_is_that_of_the_work() {
    let Fixture { manager, service, .. } = fixture(SECOND, OnDisconnect::Cancel);
    let (end, ended) = oneshot::channel();
    let call = tokio::spawn(service.oneshot(ended));
    tokio::time::sleep(secs(100)).await;
    end.send(()).unwrap();
    assert_eq!(call.await.unwrap(), Ok("done"));
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn before_the_start_a_caller_who_leaves_takes_the_work_along() {
    for (started, running) in [(false, 0), (true, 1)] {
        let Fixture { manager, alive, open, service } = fixture(secs(10), OnDisconnect::HandOver);
        let (_end, ended) = oneshot::channel();
        let call = tokio::spawn(service.oneshot(ended));
        run_ready().await;
        open.send_replace(started);
        run_ready().await;
        call.abort();
        run_ready().await;
        assert_eq!((alive.count(), manager.stats().running), (running, running));
    }
}

/// The work itself opens the gate, such as by reading the last of a request's body, and wakes no one.
#[tokio::test(start_paused = true)]
async fn the_poll_of_the_work_can_start_the_timeout() {
    let open = watch::Sender::new(false);
    let gate = open.clone();
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(move |(): &()| Some(Gated::new(gate.subscribe())))
        .respond(|_: &TaskRecord| "placeholder");
    let service = layer.layer(service_fn(move |()| {
        let open = open.clone();
        async move {
            tokio::time::sleep(secs(10)).await;
            open.send_replace(true);
            std::future::pending::<Result<_, Infallible>>().await
        }
    }));
    let start = Instant::now();
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
    assert_eq!(start.elapsed(), secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_call() {
    struct Panics;
    impl OffloadCall for Panics {
        fn meta(&self) -> TaskMeta {
            meta()
        }
        fn poll_start(&mut self, _: &mut Context<'_>) -> Poll<()> {
            panic!("no start");
        }
    }
    let (manager, alive) = (TaskManager::new(), Alive::default());
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(Panics))
        .respond(|_: &TaskRecord| ())
        .on_disconnect(OnDisconnect::HandOver);
    let watched = alive.clone();
    let mut service = layer.layer(service_fn(move |()| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), Infallible>>().await
        }
    }));
    assert!(AssertUnwindSafe(service.call(())).catch_unwind().await.is_err());
    assert_eq!((alive.count(), manager.stats().admitted), (0, 0));
}
