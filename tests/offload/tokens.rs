//! The tokens of calls inside of one another, and of work that is dropped before it has returned.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::manager::Refused;
use tower_offload::offload::{OffloadCall, Offloaded, OnDisconnect, RespondOffloaded};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, cancellation_token};

use crate::support::{SECOND, alice, meta, only, run_ready, secs};

type Inner = BoxCloneSyncService<usize, &'static str, Infallible>;

/// The tokens that the work has asked for.
#[derive(Clone, Default)]
struct Tokens(Arc<Mutex<Vec<CancellationToken>>>);

impl Tokens {
    fn keep(&self) {
        self.0.lock().unwrap().push(cancellation_token());
    }

    fn cancelled(&self) -> Vec<bool> {
        self.0.lock().unwrap().iter().map(CancellationToken::is_cancelled).collect()
    }
}

fn manager() -> TaskManager {
    TaskManager::builder().cancel_grace(secs(1000)).build()
}

fn layered<S>(manager: &TaskManager, timeout: Duration, on_disconnect: OnDisconnect, inner: S) -> Inner
where
    S: Service<usize, Response = &'static str, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let layer = OffloadLayer::new(manager.clone(), timeout)
        .describe(move |_: &usize| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .on_disconnect(on_disconnect);
    BoxCloneSyncService::new(layer.layer(inner))
}

/// Work that asks for its token and never ends.
fn asks(tokens: &Tokens) -> Inner {
    let tokens = tokens.clone();
    BoxCloneSyncService::new(service_fn(move |_| {
        let tokens = tokens.clone();
        async move {
            tokens.keep();
            pending().await
        }
    }))
}

/// Work that makes calls and polls none of them a second time.
fn calls(inner: Inner, count: usize) -> Inner {
    BoxCloneSyncService::new(service_fn(move |_| {
        let inner = inner.clone();
        async move {
            let mut calls: Vec<_> = (0..count).map(|n| inner.clone().oneshot(n)).collect();
            poll_fn(|cx| {
                assert!(calls.iter_mut().all(|call| call.poll_unpin(cx).is_pending()));
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
            drop(calls);
            Ok("done")
        }
    }))
}

async fn stop(manager: &TaskManager) {
    assert_eq!(manager.stop_all(&alice()).await.unwrap(), 1);
    run_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_nested_calls_that_are_not_polled() {
    let (manager, tokens) = (manager(), Tokens::default());
    let inner = layered(&manager, secs(100), OnDisconnect::HandOver, asks(&tokens));
    let outer = layered(&manager, SECOND, OnDisconnect::Cancel, calls(inner, 3));
    assert_eq!(outer.oneshot(0).await, Ok("placeholder"));
    assert_eq!(tokens.cancelled(), [false; 3]);
    stop(&manager).await;
    assert_eq!(tokens.cancelled(), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_the_third_layer_too() {
    for layers in 1..4 {
        let (manager, tokens) = (manager(), Tokens::default());
        let mut service = layered(&manager, secs(100), OnDisconnect::HandOver, asks(&tokens));
        for _ in 0..layers {
            service = layered(&manager, secs(100), OnDisconnect::HandOver, calls(service, 2));
        }
        let outer = layered(&manager, SECOND, OnDisconnect::Cancel, calls(service, 1));
        assert_eq!(outer.oneshot(0).await, Ok("placeholder"));
        stop(&manager).await;
        assert_eq!(tokens.cancelled(), vec![true; 1 << layers]);
    }
}

/// `FuturesUnordered`, and so `join_all`, polls only what has been woken.
#[tokio::test(start_paused = true)]
async fn a_stop_reaches_what_waits_in_a_set_of_futures() {
    for many in [3, 100] {
        let manager = manager();
        let waits = service_fn(|_| async {
            cancellation_token().cancelled().await;
            Ok::<_, Infallible>("told")
        });
        let inner = layered(&manager, secs(100), OnDisconnect::Cancel, waits);
        let all = BoxCloneSyncService::new(service_fn(move |_| {
            let inner = inner.clone();
            async move {
                let joined = join_all((0..many).map(|n| inner.clone().oneshot(n))).await;
                assert!(joined.into_iter().all(|told| told == Ok("told")));
                let mut set: FuturesUnordered<_> = (0..many).map(|n| inner.clone().oneshot(n)).collect();
                while let Some(told) = set.next().await {
                    assert_eq!(told, Ok("told"));
                }
                Ok("all told")
            }
        }));
        let outer = layered(&manager, SECOND, OnDisconnect::Cancel, all);
        assert_eq!(outer.oneshot(0).await, Ok("placeholder"));
        let start = tokio::time::Instant::now();
        stop(&manager).await;
        assert_eq!((manager.stats().completed, start.elapsed()), (1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_that_asks_after_the_stop_is_told() {
    let (manager, tokens, ask) = (manager(), Tokens::default(), Arc::new(Notify::new()));
    let (kept, asked) = (tokens.clone(), Arc::clone(&ask));
    let late = service_fn(move |_| {
        let (tokens, ask) = (kept.clone(), Arc::clone(&asked));
        async move {
            ask.notified().await;
            tokens.keep();
            pending().await
        }
    });
    let inner = layered(&manager, secs(100), OnDisconnect::HandOver, late);
    let middle = layered(&manager, secs(100), OnDisconnect::HandOver, inner);
    let outer = layered(&manager, SECOND, OnDisconnect::Cancel, middle);
    assert_eq!(outer.oneshot(0).await, Ok("placeholder"));
    stop(&manager).await;
    ask.notify_one();
    run_ready().await;
    assert_eq!(tokens.cancelled(), [true]);
}

/// In the foreground or at its deadline, when the outer caller leaves or later.
#[tokio::test(start_paused = true)]
async fn a_nested_call_that_is_a_task_of_its_own_outlives_its_outer_caller() {
    for deadline in [SECOND, secs(100)] {
        let (manager, tokens) = (manager(), Tokens::default());
        let inner = layered(&manager, deadline, OnDisconnect::HandOver, asks(&tokens));
        let outer_tokens = Tokens::default();
        let (inner, asking) = (inner.clone(), outer_tokens.clone());
        let middle = BoxCloneSyncService::new(service_fn(move |n| {
            let (inner, asking) = (inner.clone(), asking.clone());
            async move {
                asking.keep();
                assert_eq!(inner.oneshot(n).await, Ok("placeholder"));
                pending().await
            }
        }));
        let outer = layered(&manager, secs(200), OnDisconnect::Cancel, middle);
        let call = tokio::spawn(outer.oneshot(0));
        tokio::time::sleep(secs(10)).await;
        call.abort();
        run_ready().await;
        assert_eq!(manager.stats().running, 1, "the inner one is a task");
        assert_eq!((outer_tokens.cancelled(), tokens.cancelled()), (vec![true], vec![false]));
        // The token is still that of the task.
        stop(&manager).await;
        assert_eq!(tokens.cancelled(), [true]);
    }
}

/// A nested call that was begun in a task and goes on elsewhere is no part of the task any more.
#[tokio::test(start_paused = true)]
async fn a_call_is_a_part_of_what_polls_it() {
    let (manager, tokens) = (manager(), Tokens::default());
    let inner = layered(&manager, secs(1000), OnDisconnect::Cancel, asks(&tokens));
    let spawns = BoxCloneSyncService::new(service_fn(move |n| {
        let mut call = inner.clone().oneshot(n);
        async move {
            assert!((&mut call).now_or_never().is_none());
            tokio::spawn(call);
            pending().await
        }
    }));
    let outer = layered(&manager, SECOND, OnDisconnect::Cancel, spawns);
    assert_eq!(outer.oneshot(0).await, Ok("placeholder"));
    run_ready().await;
    stop(&manager).await;
    assert_eq!(tokens.cancelled(), [false]);

    // And one that was begun elsewhere is one of the task that goes on with it.
    let (manager, tokens) = (self::manager(), Tokens::default());
    let mut call = layered(&manager, secs(1000), OnDisconnect::Cancel, asks(&tokens)).oneshot(0);
    assert!((&mut call).now_or_never().is_none());
    manager.spawn(meta(), async move { call.await.is_ok() }.map(|_| ())).unwrap();
    run_ready().await;
    stop(&manager).await;
    assert_eq!(tokens.cancelled(), [true]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Meta,
    Respond,
    Refuse,
    Work,
}

#[derive(Clone, Copy)]
struct Hostile(Where);

impl Hostile {
    fn at(self, place: Where) {
        assert!(self.0 != place, "a hook that panics");
    }
}

impl OffloadCall for Hostile {
    fn meta(&self) -> TaskMeta {
        self.at(Where::Meta);
        meta()
    }
}

impl RespondOffloaded<Self, &'static str> for Hostile {
    fn respond(&self, _: &Offloaded<'_, Self>) -> &'static str {
        self.at(Where::Respond);
        "placeholder"
    }

    fn refuse(&self, _: &Self, _: Refused) -> Option<&'static str> {
        self.at(Where::Refuse);
        None
    }
}

/// Asks for a token when it is dropped.
struct AsksLate(Tokens);

impl Drop for AsksLate {
    fn drop(&mut self) {
        self.0.keep();
    }
}

/// Work that asks at once, and when it is dropped; and panics then if it is to.
fn hostile_work(
    place: Where,
    early: &Tokens,
    late: &Tokens,
) -> impl Fn(usize) -> Pin<Box<dyn Future<Output = Result<&'static str, Infallible>> + Send>> + Clone + use<>
{
    let (early, late) = (early.clone(), late.clone());
    move |_| {
        let (early, late) = (early.clone(), AsksLate(late.clone()));
        Box::pin(async move {
            let _late = late;
            early.keep();
            tokio::time::sleep(SECOND / 2).await;
            Hostile(place).at(Where::Work);
            pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_because_of_a_panic_is_told() {
    for place in [Where::Meta, Where::Respond, Where::Refuse, Where::Work] {
        for nested in [false, true] {
            let max = if place == Where::Refuse { 0 } else { 10 };
            let manager = TaskManager::builder().max_running(max).build();
            let (early, late) = (Tokens::default(), Tokens::default());
            let work = service_fn(hostile_work(place, &early, &late));
            let work = if nested {
                layered(&manager, secs(100), OnDisconnect::Cancel, work)
            } else {
                BoxCloneSyncService::new(work)
            };
            let layer = OffloadLayer::new(manager.clone(), SECOND)
                .describe(move |_: &usize| Some(Hostile(place)))
                .respond(Hostile(place))
                .on_disconnect(OnDisconnect::HandOver);
            let call = AssertUnwindSafe(layer.layer(work).oneshot(0)).catch_unwind().await;
            assert!(call.is_err(), "{place:?}");
            assert_eq!(
                (early.cancelled(), late.cancelled()),
                (vec![true], vec![true]),
                "{place:?}, {nested}"
            );
            assert_eq!(manager.stats().running, 0);
        }
    }
}

/// Work that has not asked for its token before.
#[tokio::test(start_paused = true)]
async fn work_that_asks_when_it_is_dropped_is_told() {
    let (manager, late) = (manager(), Tokens::default());
    let kept = late.clone();
    let work = service_fn(move |_| {
        let dropped = AsksLate(kept.clone());
        async move {
            let _dropped = dropped;
            pending().await
        }
    });
    let call = tokio::spawn(layered(&manager, secs(100), OnDisconnect::Cancel, work).oneshot(0));
    run_ready().await;
    call.abort();
    run_ready().await;
    assert_eq!(late.cancelled(), [true]);
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_in_the_background_is_told() {
    for asks in [false, true] {
        let manager = manager();
        let (early, late) = (Tokens::default(), Tokens::default());
        let (asking, dropped) = (early.clone(), AsksLate(late.clone()));
        manager
            .spawn(
                meta(),
                async move {
                    let _dropped = dropped;
                    if asks {
                        asking.keep();
                    }
                    run_ready().await;
                    assert!(asking.cancelled().is_empty() && !asks, "the work panics");
                    panic!("the work panics");
                }
                .map(|()| ()),
            )
            .unwrap();
        run_ready().await;
        run_ready().await;
        assert_eq!(only(&manager).await.failure_reason.as_ref().map(|reason| reason.as_str()), Some("panic"));
        assert_eq!((early.cancelled(), late.cancelled()), (vec![true; asks.into()], vec![true]));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_has_returned_is_not_told() {
    let (manager, tokens) = (manager(), Tokens::default());
    let kept = tokens.clone();
    let work = service_fn(move |wait: usize| {
        let tokens = kept.clone();
        async move {
            tokens.keep();
            tokio::time::sleep(secs(wait as u64)).await;
            Ok::<_, Infallible>("done")
        }
    });
    let service = layered(&manager, secs(10), OnDisconnect::Cancel, work);
    assert_eq!(service.clone().oneshot(1).await, Ok("done"));
    assert_eq!(service.oneshot(20).await, Ok("placeholder"));
    tokio::time::sleep(secs(100)).await;
    assert_eq!(manager.stats().completed, 1);
    assert_eq!(tokens.cancelled(), [false, false]);
}
