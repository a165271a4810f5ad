//! A call whose timeout has not begun: it still needs its caller, such as one that is sending an upload.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::offload::{OnDisconnect, Plan, StartSignal, StayReason};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};

use crate::support::{Alive, SECOND, meta, only, run_ready, secs};

static NOT_STARTED: StayReason = StayReason::new("it has not started");

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    start: StartSignal,
    service: tower::util::BoxCloneService<oneshot::Receiver<()>, &'static str, Infallible>,
}

/// Work that lasts until it is told to end.
fn fixture(timeout: Duration, on_disconnect: OnDisconnect) -> Fixture {
    let (manager, alive, start) = (TaskManager::new(), Alive::default(), StartSignal::new());
    let (watched, signal) = (alive.clone(), start.clone());
    let layer = OffloadLayer::new(manager.clone(), timeout)
        .describe(move |_: &oneshot::Receiver<()>| {
            Plan::offload(meta()).start_after(signal.clone(), &NOT_STARTED)
        })
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
    Fixture { manager, alive, start, service: tower::util::BoxCloneService::new(service) }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_counts_from_the_start() {
    for limit in [Duration::ZERO, SECOND, secs(10)] {
        let Fixture { manager, start: signal, service, .. } = fixture(limit, OnDisconnect::Cancel);
        let (_end, ended) = oneshot::channel();
        let mut call = tokio::spawn(service.oneshot(ended));
        assert!(timeout(secs(100), &mut call).await.is_err(), "its caller waits");
        assert_eq!(manager.stats().admitted, 0);
        let start = Instant::now();
        signal.give();
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
        let Fixture { manager, alive, start, service } = fixture(secs(10), OnDisconnect::HandOver);
        let (_end, ended) = oneshot::channel();
        let call = tokio::spawn(service.oneshot(ended));
        run_ready().await;
        if started {
            start.give();
        }
        run_ready().await;
        call.abort();
        run_ready().await;
        assert_eq!((alive.count(), manager.stats().running), (running, running));
    }
}

/// The work itself gives the signal, such as by reading the last of a request's body.
#[tokio::test(start_paused = true)]
async fn the_poll_of_the_work_can_start_the_timeout() {
    let signal = StartSignal::new();
    let given = signal.clone();
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(move |(): &()| Plan::offload(meta()).start_after(signal.clone(), &NOT_STARTED))
        .respond(|_: &TaskRecord| "placeholder");
    let service = layer.layer(service_fn(move |()| {
        let given = given.clone();
        async move {
            tokio::time::sleep(secs(10)).await;
            given.give();
            pending::<Result<_, Infallible>>().await
        }
    }));
    let start = Instant::now();
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
    assert_eq!(start.elapsed(), secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_given_already_puts_nothing_off() {
    let Fixture { start: signal, service, .. } = fixture(secs(10), OnDisconnect::Cancel);
    signal.give();
    signal.give();
    let start = Instant::now();
    let (_end, ended) = oneshot::channel();
    assert_eq!(service.oneshot(ended).await, Ok("placeholder"));
    assert_eq!(start.elapsed(), secs(10));
}

/// A waker that panics when it is woken, and when it is dropped.
struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics, as it should");
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("a waker that panics when it is dropped, as it should");
    }
}

/// What gives the signal is often a destructor, which may run while a panic unwinds.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_does_no_harm_to_who_gives_the_signal() {
    let Fixture { start: signal, mut service, .. } = fixture(secs(10), OnDisconnect::Cancel);
    let (_end, ended) = oneshot::channel();
    let mut call = service.call(ended);
    // Of its two references the signal has the last one.
    let waker = Waker::from(Arc::new(Bad));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(call.poll_unpin(&mut cx).is_pending());
    std::mem::forget(waker);
    signal.give();
    assert_eq!(call.await, Ok("placeholder"));
}
