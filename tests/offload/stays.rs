//! Calls that stay in the foreground, and what the log says of those that are late.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tower::{Layer, Service, service_fn};
use tower_offload::offload::{OnDisconnect, Plan, StayReason};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

use crate::log::Lines;
use crate::support::{SECOND, secs};

type Call = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, Infallible>> + Send>>;

/// A call that takes so long, and stays.
fn call(takes: Duration, plan: fn() -> Plan<TaskMeta>) -> Call {
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(move |_: &Duration| plan())
        .respond(|_: &TaskRecord| "placeholder")
        .on_disconnect(OnDisconnect::HandOver);
    Box::pin(
        layer
            .layer(service_fn(async |takes| {
                tokio::time::sleep(takes).await;
                Ok("done")
            }))
            .call(takes),
    )
}

#[tokio::test(start_paused = true)]
async fn a_late_call_that_stays_says_why_once() {
    static REASON: StayReason = StayReason::new("it waits for a person");
    static OTHER: StayReason = StayReason::new("it shares state with its caller");

    let (lines, _guard) = Lines::collect();
    let because = || Plan::stay_because(&REASON);
    // In time, or with a caller who leaves in time.
    assert_eq!(call(SECOND / 2, because).await, Ok("done"));
    assert!(timeout(SECOND / 2, call(secs(10), because)).await.is_err());
    // Without a reason.
    assert_eq!(call(secs(10), Plan::stay).await, Ok("done"));
    assert_eq!(lines.take("a late call stays"), [""; 0]);

    assert!(join_all((0..10).map(|_| call(secs(10), because))).await.iter().all(Result::is_ok));
    let [line] = &lines.take("a late call stays")[..] else { panic!("not one line") };
    assert!(line.contains("DEBUG") && line.contains("it waits for a person"), "{line}");

    // Each reason has its own limit, and each call may have its own timeout.
    assert_eq!(call(secs(10), || Plan::stay_because(&OTHER).with_timeout(secs(20))).await, Ok("done"));
    assert_eq!(lines.take("a late call stays"), [""; 0]);
    assert_eq!(call(secs(10), || Plan::stay_because(&OTHER)).await, Ok("done"));
    assert_eq!(lines.take("it shares state with its caller").len(), 1);
}

/// What is logged does not change how a call ends.
#[test]
fn a_call_that_stays_needs_no_timer() {
    static REASON: StayReason = StayReason::new("it needs no timer");

    let (_lines, _guard) = Lines::collect();
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|(): &()| Plan::<TaskMeta>::stay_because(&REASON))
        .respond(|_: &TaskRecord| "placeholder");
    let mut service = layer.layer(service_fn(async |()| pending::<Result<_, Infallible>>().await));

    let mut cx = Context::from_waker(Waker::noop());
    let mut call = pin!(service.call(()));
    assert!(call.as_mut().poll(&mut cx).is_pending(), "without a runtime");
    assert!(call.as_mut().poll(&mut cx).is_pending());

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut call = pin!(service.call(()));
    let mut poll = || runtime.block_on(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))));
    assert!(poll().is_pending(), "with a runtime that has no timer");
    assert!(poll().is_pending());
}
