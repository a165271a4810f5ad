//! A bus that is away, fails, or does not answer.

use std::sync::Arc;
use std::time::Duration;

use tower_offload::bus::{Queue, Wakeups, keys};

use crate::common::{HOUR, flaky, message, name, next, nothing_for, push, take_lock, until, wake};
use crate::support::SECOND;

#[tokio::test(start_paused = true)]
async fn it_starts_without_a_bus_and_begins_when_it_is_there() {
    let (flaky, bus) = flaky();
    push(&*bus, &wake("s")).await;
    flaky.fail_next(usize::MAX);
    let mut wakeups = Wakeups::start(bus);
    nothing_for(HOUR, &mut wakeups).await;
    let attempts = flaky.calls("drain");
    // After 0.1 0.2 0.4 ... seconds, and then every 10.
    assert!((360..370).contains(&attempts), "{attempts}");
    assert!((360..370).contains(&flaky.calls("subscribe")), "{}", flaky.calls("subscribe"));

    flaky.fail_next(0);
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!(wakeup, wake("s"));
    assert!(waited <= SECOND * 10, "{waited:?}");
    until(async || flaky.subscriptions() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_lost_is_made_again() {
    let (flaky, bus) = flaky();
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).poll_every(HOUR * 24).start();
    for round in 0..5 {
        // The end of the queue was seen, and only a signal leads there again.
        nothing_for(SECOND, &mut wakeups).await;
        flaky.cut_subscriptions();
        // Nobody hears this one.
        push(&*bus, &message("lost", round)).await;
        let (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!(wakeup, message("lost", round));
        assert!(waited <= SECOND * 4, "{waited:?}");

        let heard = message(&format!("heard {round}"), round);
        push(&*bus, &heard).await;
        assert_eq!(next(&mut wakeups).await, (heard, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_ends_every_subscription_is_not_stormed() {
    let (flaky, bus) = flaky();
    let mut wakeups = Wakeups::start(bus);
    for _ in 0..60_000 {
        nothing_for(SECOND / 100, &mut wakeups).await;
        flaky.cut_subscriptions();
    }
    assert!(flaky.calls("subscribe") <= 70, "{}", flaky.calls("subscribe"));
}

#[tokio::test(start_paused = true)]
async fn no_error_loses_a_wakeup() {
    for failures in 1..20 {
        let (flaky, bus) = flaky();
        take_lock(&*bus, "busy").await;
        let mut expected = Vec::new();
        for number in 0..10 {
            let wakeup = message(if number == 3 { "busy" } else { "s" }, number);
            push(&*bus, &wakeup).await;
            expected.push(name(&wakeup));
        }
        let mut wakeups = Wakeups::builder(Arc::clone(&bus)).batch(3).start();
        let mut seen = Vec::new();
        while seen.len() < 10 {
            flaky.fail_next(failures);
            let (wakeup, _) = next(&mut wakeups).await;
            if seen.len() == 5 {
                flaky.fail_next(0);
                let _ = bus.release(&keys::session_lock("busy"), "token").await;
            }
            seen.push(name(&wakeup));
        }
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "with {failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_nothing() {
    for operation in ["drain", "is locked", "subscribe"] {
        let (flaky, bus) = flaky();
        flaky.hang_next(operation);
        push(&*bus, &wake("s")).await;
        let mut wakeups = Wakeups::start(Arc::clone(&bus));
        let (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!(wakeup, wake("s"), "{operation}");
        // The queue is read at the start, whether there is a subscription or not.
        let longest = if operation == "subscribe" { Duration::ZERO } else { SECOND * 31 };
        assert!(waited <= longest, "{operation}: {waited:?}");
        tokio::time::sleep(SECOND * 40).await;
        push(&*bus, &wake("t")).await;
        assert_eq!(next(&mut wakeups).await, (wake("t"), Duration::ZERO), "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_the_call_that_is_under_way() {
    let (flaky, bus) = flaky();
    for number in 0..3 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    next(&mut wakeups).await;
    flaky.hang_next("is locked");
    nothing_for(SECOND, &mut wakeups).await;
    wakeups.close().await.unwrap();
    assert_eq!(flaky.inner.len(keys::WAKEUPS).await.unwrap(), 2);
}
