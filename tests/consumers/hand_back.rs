//! What a consumer has taken and does not hand out goes back.

use std::sync::Arc;

use tokio_test::{assert_pending, task};
use tower_offload::bus::{SubscriptionEvent, Wakeups, keys};

use crate::common::{HOUR, flaky, message, name, next, nothing_for, push, queued, take_lock, until, wake};
use crate::support::{SECOND, run_ready};

#[tokio::test(start_paused = true)]
async fn closing_puts_back_all_that_was_not_handed_out() {
    let (_, bus) = flaky();
    take_lock(&*bus, "busy").await;
    for number in 0..10 {
        push(&*bus, &message("busy", number)).await;
        push(&*bus, &message("s", number)).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (first, _) = next(&mut wakeups).await;
    let (second, _) = next(&mut wakeups).await;
    assert_eq!([name(&first), name(&second)], ["s message 0", "s message 1"]);
    wakeups.retry(second);
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    wakeups.close().await.unwrap();

    let (busy, others): (Vec<_>, Vec<_>) =
        queued(&*bus).await.into_iter().partition(|name| name.starts_with("busy"));
    assert_eq!(busy, Vec::from_iter((0..10).map(|number| format!("busy message {number}"))));
    assert_eq!(others, Vec::from_iter((1..10).map(|number| format!("s message {number}"))));
    assert!(matches!(signals.recv().await, Some(SubscriptionEvent::Message(_))));
}

#[tokio::test(start_paused = true)]
async fn dropping_does_so_in_the_background() {
    let (flaky, bus) = flaky();
    for number in 0..10 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    next(&mut wakeups).await;
    drop(wakeups);
    until(async || bus.len(keys::WAKEUPS).await.unwrap() == 9).await;
    bus.publish(keys::WAKEUP_SIGNAL, "{}").await.unwrap();
    until(async || flaky.subscriptions() == 0).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 9);

    let mut other = Wakeups::start(bus);
    for number in 1..10 {
        assert_eq!(next(&mut other).await.0, wake(&format!("s{number}")));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_and_not_received_goes_back_too() {
    let (_, bus) = flaky();
    for close in [true, false] {
        let mut wakeups = Wakeups::start(Arc::clone(&bus));
        assert_pending!(task::spawn(wakeups.recv()).poll());
        push(&*bus, &wake("s")).await;
        run_ready().await;
        assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 0);
        match close {
            true => wakeups.close().await.unwrap(),
            false => drop(wakeups),
        }
        until(async || bus.len(keys::WAKEUPS).await.unwrap() == 1).await;
        assert_eq!(queued(&*bus).await, ["s wake"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_drained_as_it_is_dropped_goes_back_too() {
    let (_, bus) = flaky();
    for polls in 0..20 {
        push(&*bus, &wake("s")).await;
        let mut wakeups = Wakeups::start(Arc::clone(&bus));
        assert_pending!(task::spawn(wakeups.recv()).poll());
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        drop(wakeups);
        tokio::time::sleep(SECOND).await;
        assert_eq!(queued(&*bus).await, ["s wake"], "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_free_as_it_is_dropped_goes_back_too() {
    let (flaky, bus) = flaky();
    push(&*bus, &wake("s")).await;
    flaky.slow_next("is locked", SECOND * 5);
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    nothing_for(SECOND, &mut wakeups).await;
    drop(wakeups);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(queued(&*bus).await, ["s wake"]);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_a_bus_that_is_away() {
    let (flaky, bus) = flaky();
    for number in 0..5 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    next(&mut wakeups).await;
    flaky.fail_next(6);
    wakeups.close().await.unwrap();
    assert_eq!(flaky.failures_left(), 0);
    assert_eq!(queued(&*bus).await, ["s1 wake", "s2 wake", "s3 wake", "s4 wake"]);
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_after_a_while_and_says_so() {
    let (flaky, bus) = flaky();
    push(&*bus, &wake("s0")).await;
    push(&*bus, &wake("s1")).await;
    let mut wakeups = Wakeups::start(bus);
    next(&mut wakeups).await;
    flaky.fail_next(usize::MAX);
    let before = tokio::time::Instant::now();
    wakeups.close().await.unwrap_err();
    assert_eq!(before.elapsed(), SECOND * 60);
}

#[tokio::test(start_paused = true)]
async fn closing_with_nothing_in_hand_needs_no_bus() {
    let (flaky, bus) = flaky();
    let mut wakeups = Wakeups::start(bus);
    nothing_for(SECOND, &mut wakeups).await;
    flaky.fail_next(usize::MAX);
    wakeups.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_the_end_goes_to_the_queue() {
    let (flaky, bus) = flaky();
    push(&*bus, &message("s", 1)).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (wakeup, _) = next(&mut wakeups).await;
    let handle = wakeups.handle();
    wakeups.close().await.unwrap();
    flaky.fail_next(3);
    handle.retry(wakeup);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(queued(&*bus).await, ["s message 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_goes_back_once_the_bus_is_there() {
    let (flaky, bus) = flaky();
    for number in 0..5 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    next(&mut wakeups).await;
    flaky.fail_next(10);
    tokio::time::sleep(SECOND * 120).await;
    assert_eq!(queued(&*bus).await, ["s1 wake", "s2 wake", "s3 wake", "s4 wake"]);
}
