//! One layer on several runtimes, each with a clock of its own.

use std::convert::Infallible;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::manager::{BoxError, Ended, TaskManagerBuilder};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus};

use crate::deadlines::{Call, Calls, LATE, poll_once};
use crate::support::{SECOND, alice, meta, run_ready, secs};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// A call that waits, as a task.
fn waiting(runtime: &Runtime, call: Call) -> JoinHandle<Duration> {
    let task = runtime.spawn(async move {
        let start = Instant::now();
        assert_eq!(call.await, Ok(LATE));
        start.elapsed()
    });
    runtime.block_on(run_ready());
    task
}

/// How long it has waited. Nothing else can wake it: if it is forgotten, this fails.
fn soon(runtime: &Runtime, task: JoinHandle<Duration>) -> Duration {
    runtime.block_on(async { timeout(secs(60), task).await }).unwrap().unwrap()
}

fn alive(runtime: &Runtime) -> usize {
    runtime.metrics().num_alive_tasks()
}

#[test]
fn each_runtime_has_its_own_clock() {
    let (fast, slow, calls) = (runtime(), runtime(), Calls::new(secs(10)));
    let (on_fast, on_slow) = (waiting(&fast, calls.call(None)), waiting(&slow, calls.call(None)));
    fast.block_on(async {
        advance(secs(11)).await;
        run_ready().await;
    });
    slow.block_on(run_ready());
    assert_eq!((on_fast.is_finished(), on_slow.is_finished()), (true, false));
    let waited = soon(&slow, on_slow);
    assert_eq!(waited, secs(10));
}

#[test]
fn the_end_of_a_runtime_is_nothing_to_the_others() {
    let (ends, stays, calls) = (runtime(), runtime(), Calls::new(secs(10)));
    let lost: Vec<_> = (0..100).map(|_| waiting(&ends, calls.call(None))).collect();
    let kept = waiting(&stays, calls.call(None));
    drop(ends);
    assert!(lost.iter().all(JoinHandle::is_finished));
    let waited = soon(&stays, kept);
    assert_eq!(waited, secs(10));
    // The next runtime may have the number of one that is gone.
    for _ in 0..3 {
        let next = runtime();
        let task = waiting(&next, calls.call(None));
        assert_eq!(soon(&next, task), secs(10));
    }
}

/// Each clock stands still from when its runtime was made.
fn about(waited: Duration, full: Duration, begun: std::time::Instant) {
    let earliest = full.saturating_sub(begun.elapsed()) - Duration::from_millis(1);
    let latest = full + Duration::from_millis(1);
    assert!((earliest..=latest).contains(&waited), "{waited:?} is not in {earliest:?}..={latest:?}");
}

#[test]
fn what_is_left_of_the_time_goes_on_elsewhere() {
    let begun = std::time::Instant::now();
    let (first, calls) = (runtime(), Calls::new(secs(10)));
    let mut call = calls.call(None);
    first.block_on(async { assert!(poll_once(&mut call)) });
    drop(first);
    let second = runtime();
    let task = waiting(&second, call);
    about(soon(&second, task), secs(10), begun);
}

#[test]
fn those_who_have_moved_on_are_told_that_their_first_runtime_has_gone() {
    let begun = std::time::Instant::now();
    let (first, second, calls) = (runtime(), runtime(), Calls::new(secs(10)));
    // More than one batch.
    let mut moving: Vec<_> = (0..100).map(|_| calls.call(None)).collect();
    first.block_on(async { assert!(moving.iter_mut().all(poll_once)) });
    let tasks: Vec<_> = moving.into_iter().map(|call| waiting(&second, call)).collect();
    assert_eq!((alive(&first), alive(&second)), (1, 100), "they wait where they began");
    drop(first);
    for task in tasks {
        about(soon(&second, task), secs(10), begun);
    }
}

#[test]
fn a_runtime_wakes_those_who_have_moved_on() {
    let (first, second, calls) = (runtime(), runtime(), Calls::new(secs(10)));
    let mut call = calls.call(None);
    first.block_on(async { assert!(poll_once(&mut call)) });
    let task = waiting(&second, call);
    first.block_on(async {
        advance(secs(10)).await;
        run_ready().await;
    });
    let waited = soon(&second, task);
    assert_eq!(waited, Duration::ZERO);
}

#[test]
fn the_clock_is_asked_where_the_first_runtime_stands_still() {
    let (first, second, calls) = (runtime(), runtime(), Calls::new(secs(10)));
    let mut call = calls.call(None);
    first.block_on(async { assert!(poll_once(&mut call)) });
    second.block_on(async {
        advance(secs(9)).await;
        assert!(poll_once(&mut call));
        advance(secs(2)).await;
        assert!(!poll_once(&mut call));
    });
    assert_eq!(alive(&first), 1);
}

#[test]
fn without_a_clock_it_panics_and_others_do_not_notice() {
    let calls = Calls::new(SECOND);
    let panics = || {
        let mut call = calls.call(None);
        catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err()
    };
    assert!(panics(), "outside of a runtime");
    let timeless = Builder::new_current_thread().build().unwrap();
    assert!(timeless.block_on(async { panics() }));
    assert_eq!(alive(&timeless), 0);
    let runtime = runtime();
    let task = waiting(&runtime, calls.call(None));
    assert_eq!(soon(&runtime, task), SECOND);
}

/// Calls of different timeouts, none of which is that of the layer.
fn different(calls: &Calls) -> Vec<Call> {
    (0..40).map(|n| calls.call(secs(20) + SECOND * n)).collect()
}

#[test]
fn calls_of_many_timeouts_go_on_elsewhere() {
    let begun = std::time::Instant::now();
    let (first, calls) = (runtime(), Calls::new(secs(10)));
    let mut moving = different(&calls);
    first.block_on(async { assert!(moving.iter_mut().all(poll_once)) });
    drop(first);
    let second = runtime();
    let tasks: Vec<_> = moving.into_iter().map(|call| waiting(&second, call)).collect();
    for (n, task) in (0..).zip(tasks) {
        about(soon(&second, task), secs(20) + SECOND * n, begun);
    }
}

#[test]
fn calls_of_many_timeouts_are_woken_when_their_first_runtime_ends() {
    let begun = std::time::Instant::now();
    let (first, second, third, calls) = (runtime(), runtime(), runtime(), Calls::new(secs(10)));
    let mut moving = different(&calls);
    for runtime in [&first, &third] {
        // The second poll leaves a call where it began.
        runtime.block_on(async { assert!(moving.iter_mut().all(poll_once)) });
    }
    let (longest, last) = (secs(59), moving.pop().unwrap());
    let last = waiting(&second, last);
    drop(third);
    drop(first);
    about(soon(&second, last), longest, begun);
    drop(second);
    // Where no runtime is alive, a call is dropped as any other.
    drop(moving);
}

#[test]
fn a_call_that_moves_on_to_no_runtime_panics_and_leaves_its_place_once() {
    let (first, calls) = (runtime(), Calls::new(secs(10)));
    let mut moving: Vec<_> = (0..3).map(|_| calls.call(None)).collect();
    first.block_on(async { assert!(moving.iter_mut().all(poll_once)) });
    drop(first);
    let panics = |call: &mut Call| catch_unwind(AssertUnwindSafe(|| poll_once(call))).is_err();
    assert!(moving[..2].iter_mut().all(panics));
    // Two places are free now. A place that is freed twice would be that of two calls.
    let second = runtime();
    let last = waiting(&second, moving.pop().unwrap());
    let more: Vec<_> = (1..4).map(|n| waiting(&second, calls.call(SECOND * n))).collect();
    for (n, task) in (1..).zip(more) {
        assert_eq!(soon(&second, task), SECOND * n);
    }
    soon(&second, last);
}

#[test]
fn a_call_that_a_runtime_polls_after_its_end_is_handed_over_in_time() {
    let (says, hears) = mpsc::channel();
    // In a thread of its own: a call that no timer wakes would keep the test.
    std::thread::spawn(move || {
        let ended = Builder::new_current_thread().enable_time().build().unwrap();
        let handle = ended.handle().clone();
        drop(ended);
        let calls = Calls::new(Duration::from_millis(20));
        says.send(handle.block_on(calls.call(None))).unwrap();
        // And with a timer that was made before.
        let first = runtime();
        let mut moving = calls.call(Duration::from_millis(30));
        first.block_on(async { assert!(poll_once(&mut moving)) });
        drop(first);
        says.send(handle.block_on(moving)).unwrap();
    });
    assert_eq!(hears.recv_timeout(secs(60)), Ok(Ok(LATE)));
    assert_eq!(hears.recv_timeout(secs(60)), Ok(Ok(LATE)));
}

const TIMELESS: &str = "timeless";

#[test]
fn tasks_on_a_runtime_without_timers_end_and_are_delivered() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_here = std::thread::current().name() == Some(TIMELESS);
        PANICS.fetch_add(is_here.into(), Ordering::SeqCst);
        report(panic);
    }));
    // Without records that expire no task drops them.
    for retain_for in [None, Some(secs(60))] {
        end_on_a_runtime_without_timers(TaskManager::builder().retain_for(retain_for));
        // The attempt to make a timer. It is not repeated.
        assert_eq!(PANICS.swap(0, Ordering::SeqCst), 1);
    }
}

fn end_on_a_runtime_without_timers(builder: TaskManagerBuilder) {
    let timeless = Builder::new_multi_thread().worker_threads(1).thread_name(TIMELESS).build().unwrap();
    let runtime = runtime();
    let manager =
        builder.runtime(timeless.handle().clone()).max_run_time(secs(60)).cancel_grace(secs(60)).build();
    let (says, delivered) = mpsc::channel();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &oneshot::Receiver<()>| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(move |task: TaskRecord, _: Ended<Result<(), Infallible>>| {
            says.send(task.status).unwrap();
            ready(Ok::<_, BoxError>(()))
        });
    let service = layer.layer(service_fn(async |end: oneshot::Receiver<()>| {
        let _ = end.await;
        Ok::<_, Infallible>(())
    }));
    for stops in [false, false, true] {
        let (end, ends) = oneshot::channel();
        runtime.block_on(service.clone().oneshot(ends)).unwrap();
        if stops {
            assert_eq!(runtime.block_on(manager.stop_all(&alice())).unwrap(), 1);
        } else {
            end.send(()).unwrap();
        }
        let status = if stops { TaskStatus::Cancelled } else { TaskStatus::Completed };
        assert_eq!(delivered.recv_timeout(secs(60)), Ok(status));
    }
    assert_eq!(manager.stats().undelivered, 0);
}
