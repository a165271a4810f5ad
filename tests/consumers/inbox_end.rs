//! Runs that end without closing their inbox.

use std::sync::Arc;

use tower_offload::bus::{Inbox, SubscriptionEvent, keys};

use crate::common::{HOUR, MILLIS, delivery, flaky, is_consumed, message, queued, wake};
use crate::support::{SECOND, run_ready};

#[tokio::test(start_paused = true)]
async fn with_something_left_the_session_is_woken_once() {
    let (_, bus) = flaky();
    // Opened with what woke it, but what is left is no reason to send that again.
    let inbox = Inbox::open(Arc::clone(&bus), &message("s", 7)).await.unwrap();
    bus.deliver(&delivery("s", "1")).await.unwrap();
    bus.deliver(&delivery("s", "2")).await.unwrap();
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    drop(inbox);
    run_ready().await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!(bus.len(&keys::inbox("s")).await.unwrap(), 2);
    let entries = bus.drain(keys::WAKEUPS, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].payload, serde_json::to_string(&wake("s")).unwrap());
    assert!(matches!(signals.recv().await, Some(SubscriptionEvent::Message(_))));

    tokio::time::sleep(HOUR).await;
    assert_eq!(queued(&*bus).await, [""; 0]);
    assert!(!is_consumed(&*bus, "s").await, "the renewal has ended");
    assert!(bus.deliver(&delivery("s", "3")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn with_nothing_left_nobody_is_woken() {
    let (flaky, bus) = flaky();
    drop(Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap());
    tokio::time::sleep(HOUR).await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!((queued(&*bus).await.len(), flaky.calls("publish")), (0, 0));
    assert_eq!(flaky.calls("set"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_abort_are_such_ends() {
    let (_, bus) = flaky();
    for panic in [true, false] {
        let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
        bus.deliver(&delivery("s", if panic { "1" } else { "2" })).await.unwrap();
        let run = tokio::spawn(async move {
            let _inbox = inbox;
            assert!(!panic, "as it was asked to");
            std::future::pending::<()>().await;
        });
        run_ready().await;
        run.abort();
        run.await.unwrap_err();
        run_ready().await;
        assert!(!is_consumed(&*bus, "s").await);
        assert_eq!(queued(&*bus).await, ["s wake"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_fails_goes_on_in_the_background() {
    let (flaky, bus) = flaky();
    for left in [false, true] {
        let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
        if left {
            bus.deliver(&delivery("s", "1")).await.unwrap();
        }
        flaky.fail_next(3);
        inbox.close().await.unwrap_err();
        tokio::time::sleep(SECOND).await;
        assert!(!is_consumed(&*bus, "s").await);
        assert_eq!(queued(&*bus).await.len(), usize::from(left));
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_the_bus_fails_it_goes_on_from_there() {
    for operation in ["finish an inbox", "push", "remove", "publish"] {
        let (flaky, bus) = flaky();
        let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
        bus.deliver(&delivery("s", "1")).await.unwrap();
        let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
        flaky.hang_next(operation);
        drop(inbox);
        tokio::time::sleep(SECOND * 29).await;
        // Never is there a result, no flag, and nobody to come.
        let is_left = !is_consumed(&*bus, "s").await && bus.len(keys::WAKEUPS).await.unwrap() == 0;
        assert!(!is_left, "{operation}");
        tokio::time::sleep(SECOND * 2).await;
        assert!(!is_consumed(&*bus, "s").await, "{operation}");
        assert_eq!(queued(&*bus).await, ["s wake"], "{operation}");
        assert!(matches!(signals.recv().await, Some(SubscriptionEvent::Message(_))), "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_away_for_minutes_is_waited_for() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    bus.deliver(&delivery("s", "1")).await.unwrap();
    flaky.fail_next(usize::MAX);
    drop(inbox);
    tokio::time::sleep(SECOND * 590).await;
    flaky.fail_next(0);
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(queued(&*bus).await, ["s wake"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_waited_for_for_ever() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    flaky.fail_next(usize::MAX);
    drop(inbox);
    tokio::time::sleep(HOUR).await;
    let attempts = flaky.calls("finish an inbox");
    assert!((60..75).contains(&attempts), "{attempts}");
    tokio::time::sleep(HOUR + MILLIS).await;
    assert_eq!(flaky.calls("finish an inbox"), attempts);
}
