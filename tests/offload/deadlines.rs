//! Many calls that wait at once: each is handed over at its own deadline, and nothing stays of those who leave.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, Service, service_fn};
use tower_offload::offload::Plan;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};

use crate::support::{SECOND, meta, run_ready, secs};

pub(crate) const LATE: &str = "placeholder";

/// A call with its own timeout, or with the layer's.
pub(crate) type Request = (Option<Duration>, Option<oneshot::Receiver<()>>);
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<&'static str, Infallible>> + Send>>;

/// Makes calls that last until they are told to end, or for ever: nothing wakes them but their deadline.
pub(crate) struct Calls(tower::util::BoxCloneSyncService<Request, &'static str, Infallible>);

impl Calls {
    pub(crate) fn new(timeout: Duration) -> Self {
        let manager = TaskManager::builder().max_running(100_000).max_running_per_user(100_000).build();
        let layer = OffloadLayer::new(manager, timeout)
            .describe(|(timeout, _): &Request| Plan::offload(meta()).with_timeout(*timeout))
            .respond(|_: &TaskRecord| LATE);
        Self(tower::util::BoxCloneSyncService::new(layer.layer(service_fn(async |(_, end): Request| {
            match end {
                Some(end) => drop(end.await),
                None => std::future::pending().await,
            }
            Ok("done")
        }))))
    }

    pub(crate) fn call(&self, timeout: impl Into<Option<Duration>>) -> Call {
        self.0.clone().call((timeout.into(), None))
    }

    pub(crate) fn call_that_ends(&self) -> (oneshot::Sender<()>, Call) {
        let (end, ended) = oneshot::channel();
        (end, self.0.clone().call((None, Some(ended))))
    }
}

pub(crate) fn poll_once(call: &mut Call) -> bool {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn equal_timeouts_end_in_order_and_exactly() {
    let calls = Calls::new(secs(10));
    let ended = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let (call, ended) = (calls.call(None), Arc::clone(&ended));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n / 2 * 7)).await;
                let start = Instant::now();
                assert_eq!(call.await, Ok(LATE));
                ended.lock().unwrap().push(n);
                start.elapsed()
            })
        })
        .collect();
    for task in join_all(tasks).await {
        assert_eq!(task.unwrap(), secs(10));
    }
    // Those that began at one instant end in the order in which they began to wait, which is that of their timers.
    let ended = ended.lock().unwrap();
    assert!(ended.is_sorted_by_key(|n| n / 2), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_began_at_one_instant_end_in_order() {
    let calls = Calls::new(secs(10));
    let ended = Arc::new(Mutex::new(Vec::new()));
    // More than one batch of the janitor.
    let tasks = (0..100).map(|n| {
        let (call, ended) = (calls.call(None), Arc::clone(&ended));
        tokio::spawn(async move {
            call.await.unwrap();
            ended.lock().unwrap().push(n);
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await;
    assert!(ended.lock().unwrap().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn different_timeouts_of_one_layer_do_not_wait_for_each_other() {
    let calls = Calls::new(secs(10));
    let timed = (0..200_u64).map(|n| {
        let timeout = Duration::from_millis(1 + n * 7919 % 5_000 / (1 + n % 3));
        let call = calls.call(timeout);
        async move {
            let start = Instant::now();
            assert_eq!(call.await, Ok(LATE));
            assert_eq!(start.elapsed(), timeout);
        }
    });
    join_all(timed).await;
}

#[tokio::test(start_paused = true)]
async fn timeouts_that_clients_choose_share_one_task() {
    let (calls, before) = (Calls::new(secs(10)), alive());
    let mut waiting: Vec<_> =
        (1..=1000).map(|n| calls.call(Duration::from_millis(n * 7919 % 1009))).collect();
    assert!(waiting.iter_mut().all(poll_once));
    assert_eq!(alive() - before, 1);
    // The layer's own timeout has a task too.
    let mut usual = calls.call(None);
    assert!(poll_once(&mut usual));
    assert_eq!(alive() - before, 2);
    // The task ends at the next deadline that it knew of, because no call waits then.
    drop(waiting);
    advance(secs(2)).await;
    run_ready().await;
    assert_eq!(alive() - before, 1);
    let mut more = calls.call(SECOND);
    assert!(poll_once(&mut more));
    assert_eq!(alive() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_timeout_is_not_late_behind_a_longer_one() {
    let calls = Calls::new(secs(1000));
    // Each of them is due before all others that wait.
    let tasks: Vec<_> = [500, 400, 30, 20, 10].map(|n| (secs(n), tokio::spawn(calls.call(secs(n))))).into();
    run_ready().await;
    advance(secs(5)).await;
    let start = Instant::now();
    let last = tokio::spawn(calls.call(SECOND));
    assert_eq!(last.await.unwrap(), Ok(LATE));
    assert_eq!(start.elapsed(), SECOND);
    for (timeout, task) in tasks.into_iter().rev() {
        assert_eq!(task.await.unwrap(), Ok(LATE));
        assert_eq!(start.elapsed() + secs(5), timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn one_task_waits_for_all_and_ends_when_nobody_waits() {
    let (calls, before) = (Calls::new(secs(10)), alive());
    for _ in 0..3 {
        let mut waiting: Vec<_> = (0..10_000).map(|_| calls.call(None)).collect();
        assert!(waiting.iter_mut().all(poll_once));
        assert_eq!(alive() - before, 1);
        advance(secs(4)).await;
        waiting.truncate(1);
        assert!(waiting.iter_mut().all(poll_once));
        drop(waiting);
        advance(secs(4)).await;
        // It finds one who has just begun.
        let (end, mut call) = calls.call_that_ends();
        assert!(poll_once(&mut call));
        advance(secs(4)).await;
        run_ready().await;
        assert_eq!(alive() - before, 1);
        end.send(()).unwrap();
        assert_eq!(call.await, Ok("done"));
        advance(secs(7)).await;
        run_ready().await;
        assert_eq!(alive(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_goes_with_the_last_of_the_layer() {
    let before = alive();
    let calls = Calls::new(secs(3600));
    let (end, mut call) = calls.call_that_ends();
    assert!(poll_once(&mut call));
    let mut other = calls.call(secs(1800));
    assert!(poll_once(&mut other));
    drop((calls, other));
    run_ready().await;
    assert_eq!(alive() - before, 2, "a call still waits");
    end.send(()).unwrap();
    assert_eq!((&mut call).await, Ok("done"));
    run_ready().await;
    assert_eq!(alive(), before, "an answered call keeps nothing");
}

#[tokio::test(start_paused = true)]
async fn no_time_and_all_time_are_waited_for_by_nobody() {
    let (calls, before) = (Calls::new(SECOND), alive());
    let mut call = calls.call(Duration::MAX);
    assert!(poll_once(&mut call));
    let mut unending = calls.call(Duration::MAX - SECOND);
    assert!(poll_once(&mut unending));
    assert_eq!(alive(), before);
    advance(secs(1_000_000)).await;
    assert!(poll_once(&mut call) && poll_once(&mut unending));
    assert_eq!(calls.call(Duration::ZERO).now_or_never(), Some(Ok(LATE)));
}

#[tokio::test(start_paused = true)]
async fn who_polled_last_is_woken() {
    let calls = Calls::new(secs(10));
    let (start, mut call) = (Instant::now(), calls.call(None));
    for _ in 0..3 {
        // In a task of its own.
        let (polled, call_again) = oneshot::channel();
        tokio::spawn(async move {
            assert!(futures_util::poll!(&mut call).is_pending());
            assert!(futures_util::poll!(&mut call).is_pending());
            polled.send(call).ok().unwrap();
        });
        call = call_again.await.unwrap();
        advance(SECOND).await;
    }
    assert_eq!(tokio::spawn(timeout(secs(60), call)).await.unwrap(), Ok(Ok(LATE)));
    assert_eq!(start.elapsed(), secs(10));
}

/// Does what it is told to when it wakes, and when it is dropped.
struct Does<F: Fn(&'static str) + Send + Sync>(F);

impl<F: Fn(&'static str) + Send + Sync> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        (self.0)("wake");
    }
}

impl<F: Fn(&'static str) + Send + Sync> Drop for Does<F> {
    fn drop(&mut self) {
        (self.0)("drop");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_keeps_nobody_from_being_woken() {
    let calls = Calls::new(secs(10));
    let mut before = tokio::spawn(calls.call(None));
    run_ready().await;
    let mut panics = calls.call(None);
    let waker = Waker::from(Arc::new(Does(|what| assert_ne!(what, "wake", "a waker panics"))));
    assert!(panics.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    let after = tokio::spawn(calls.call(None));
    assert_eq!((&mut before).await.unwrap(), Ok(LATE));
    let start = Instant::now();
    assert_eq!(timeout(secs(60), after).await.unwrap().unwrap(), Ok(LATE));
    assert_eq!((start.elapsed(), poll_once(&mut panics)), (Duration::ZERO, false));
}

#[tokio::test(start_paused = true)]
async fn wakers_may_come_back_to_the_layer() {
    let calls = Arc::new(Calls::new(secs(10)));
    let used = Arc::new(Mutex::new(Vec::new()));
    let waker = || {
        let (calls, used) = (Arc::clone(&calls), Arc::clone(&used));
        Waker::from(Arc::new(Does(move |what| {
            used.lock().unwrap().push(what);
            let mut other = calls.call(None);
            assert!(poll_once(&mut other), "and leaves again");
        })))
    };
    let poll = |call: &mut Call| call.as_mut().poll(&mut Context::from_waker(&waker())).is_pending();
    let mut replaced = calls.call(None);
    assert!(poll(&mut replaced) && poll(&mut replaced));
    assert_eq!(used.lock().unwrap().split_off(0), ["drop"]);
    let mut dropped = calls.call(None);
    assert!(poll(&mut dropped));
    drop(dropped);
    assert_eq!(used.lock().unwrap().split_off(0), ["drop"]);
    advance(secs(10)).await;
    run_ready().await;
    assert_eq!(used.lock().unwrap().split_off(0), ["wake", "drop"]);
    assert!(!poll(&mut replaced));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_waits_no_longer() {
    let (end, ended) = oneshot::channel::<()>();
    let ended = Mutex::new(Some(ended));
    let before = alive();
    let layer = OffloadLayer::new(TaskManager::new(), secs(10))
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| LATE);
    let mut service = layer.layer(service_fn(move |()| {
        let ended = ended.lock().unwrap().take().unwrap();
        async move {
            drop(ended.await);
            panic!("boom");
            #[expect(unreachable_code, reason = "it says the type")]
            Ok::<_, Infallible>(LATE)
        }
    }));
    let mut call: Call = Box::pin(service.call(()));
    assert!(poll_once(&mut call));
    end.send(()).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err());
    advance(secs(10)).await;
    run_ready().await;
    assert_eq!(alive(), before);
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_when_it_is_dropped_costs_only_its_call() {
    let polls = Arc::new(AtomicU32::new(0));
    let layer = OffloadLayer::new(TaskManager::new(), secs(10))
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| LATE);
    let mut service = layer.layer(service_fn(move |()| {
        let polls = Arc::clone(&polls);
        std::future::poll_fn(move |_| {
            assert_eq!(polls.fetch_add(1, Ordering::Relaxed), 0, "the work panics");
            Poll::<Result<_, Infallible>>::Pending
        })
    }));
    let mut call: Call = Box::pin(service.call(()));
    let waker = Waker::from(Arc::new(Does(|what| assert_ne!(what, "drop", "a waker panics"))));
    assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    // The last clone waits for the deadline. It is dropped while the call unwinds.
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err());
    let next = Calls::new(SECOND).call(None);
    assert_eq!(next.await, Ok(LATE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_forgotten_on_real_threads_and_nobody_is_early() {
    let (calls, before) = (Arc::new(Calls::new(Duration::from_millis(5))), alive());
    let tasks = (0..2000_u64).map(|n| {
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let own = Duration::from_micros(500 + n % 5 * 700);
            let (end, quick) = calls.call_that_ends();
            let (late, quick) = tokio::join!(
                async {
                    let start = Instant::now();
                    let late = calls.call((n % 3 > 0).then_some(own)).await;
                    assert!(start.elapsed() >= own);
                    late
                },
                async {
                    let ender = async { end.send(()) };
                    tokio::join!(quick, ender).0
                }
            );
            (late.unwrap(), quick.unwrap())
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        assert_eq!(task.unwrap(), (LATE, "done"));
    }
    drop(calls);
    // Of all that were handed over nothing is left but what never ends.
    while alive() > before + 2001 {
        tokio::task::yield_now().await;
    }
}
