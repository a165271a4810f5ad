//! Sessions that somebody runs already, and wakeups that come back.

use std::sync::Arc;
use std::time::Duration;

use tower_offload::bus::{Wakeups, keys};

use crate::common::{
    HOUR, MILLIS, flaky, give_lock, message, next, next_name, nothing_for, push, queued, take_lock, wake,
};
use crate::support::SECOND;

#[tokio::test(start_paused = true)]
async fn a_busy_session_is_looked_at_less_and_less() {
    let (flaky, bus) = flaky();
    take_lock(&*bus, "s").await;
    push(&*bus, &wake("s")).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));

    nothing_for(SECOND * 60, &mut wakeups).await;
    // At 0, then after 0.1 0.2 0.4 0.8 1.6 3.2 seconds, then every 5.
    assert_eq!(flaky.calls("is locked"), 17);
    // The start, the end of the queue, after the subscription, and every 30 seconds. It does not go back.
    assert!(flaky.calls("drain") <= 5, "{}", flaky.calls("drain"));
    assert_eq!(flaky.calls("push"), 1);

    nothing_for(HOUR, &mut wakeups).await;
    assert_eq!(flaky.calls("is locked"), 17 + 720);
    give_lock(&*bus, "s").await;
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!(wakeup, wake("s"));
    assert!(waited <= SECOND * 5, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_pauses_can_be_chosen() {
    let (flaky, bus) = flaky();
    take_lock(&*bus, "s").await;
    push(&*bus, &wake("s")).await;
    let mut wakeups = Wakeups::builder(bus).backoff(SECOND, SECOND * 2).start();
    nothing_for(MILLIS * 9_999, &mut wakeups).await;
    // At 0 1 3 5 7 9.
    assert_eq!(flaky.calls("is locked"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_busy_session_holds_up_no_other() {
    let (_, bus) = flaky();
    take_lock(&*bus, "busy").await;
    push(&*bus, &wake("busy")).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    for number in 0..100 {
        push(&*bus, &wake("busy")).await;
        push(&*bus, &wake(&format!("s{number}"))).await;
        let (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!((wakeup.session_id, waited), (format!("s{number}"), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn plain_wakeups_of_a_busy_session_become_one() {
    let (flaky, bus) = flaky();
    take_lock(&*bus, "s").await;
    let mut other_agent = wake("s");
    other_agent.agent_id = "other".to_owned();
    for wakeup in [wake("s"), wake("s"), message("s", 1), wake("s"), message("s", 1), other_agent.clone()] {
        push(&*bus, &wakeup).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    nothing_for(MILLIS * 50, &mut wakeups).await;
    assert_eq!(flaky.calls("is locked"), 1, "one look for all of them");
    for _ in 0..1_000 {
        push(&*bus, &wake("s")).await;
    }
    nothing_for(SECOND * 30, &mut wakeups).await;
    give_lock(&*bus, "s").await;

    // What carries something is not one too many, even if it is the same.
    for expected in [wake("s"), message("s", 1), message("s", 1), other_agent] {
        assert_eq!(next(&mut wakeups).await.0, expected);
    }
    nothing_for(HOUR, &mut wakeups).await;
}

#[tokio::test(start_paused = true)]
async fn what_carries_something_keeps_its_order() {
    let (_, bus) = flaky();
    take_lock(&*bus, "s").await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    for number in 0..100 {
        let mut wakeup = message("s", number);
        if number % 3 == 0 {
            wakeup.kind = "resume".to_owned();
        }
        push(&*bus, &wakeup).await;
        if number % 40 == 0 {
            nothing_for(SECOND, &mut wakeups).await;
        }
    }
    give_lock(&*bus, "s").await;
    for number in 0..100 {
        let kind = if number % 3 == 0 { "resume" } else { "message" };
        assert_eq!(next_name(&mut wakeups).await, format!("s {kind} {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_woken_is_left_the_time_to_take_its_lock() {
    let (_, bus) = flaky();
    push(&*bus, &message("s", 1)).await;
    push(&*bus, &message("s", 2)).await;
    push(&*bus, &wake("other")).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    assert_eq!(next_name(&mut wakeups).await, "s message 1");
    assert_eq!(next_name(&mut wakeups).await, "other wake");
    take_lock(&*bus, "s").await;
    nothing_for(SECOND * 2, &mut wakeups).await;
    give_lock(&*bus, "s").await;
    assert_eq!(next_name(&mut wakeups).await, "s message 2");

    // And no longer than that.
    push(&*bus, &message("s", 3)).await;
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!((wakeup, waited), (message("s", 3), MILLIS * 100));
    tokio::time::sleep(MILLIS * 101).await;
    push(&*bus, &message("s", 4)).await;
    assert_eq!(next(&mut wakeups).await, (message("s", 4), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_comes_again_later_and_later() {
    let (_, bus) = flaky();
    push(&*bus, &message("s", 1)).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (mut wakeup, _) = next(&mut wakeups).await;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        wakeups.handle().retry(wakeup);
        let waited;
        (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!(wakeup, message("s", 1));
        pauses.push(waited.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
    assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 0);

    // It went well at last, and so the next one begins anew.
    tokio::time::sleep(SECOND * 11).await;
    push(&*bus, &message("s", 2)).await;
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!(waited, Duration::ZERO);
    wakeups.retry(wakeup);
    assert_eq!(next(&mut wakeups).await, (message("s", 2), MILLIS * 100));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_slow_to_give_back_waits_longer_and_longer_too() {
    let (_, bus) = flaky();
    push(&*bus, &message("s", 1)).await;
    let mut wakeups = Wakeups::start(bus);
    let (mut wakeup, _) = next(&mut wakeups).await;
    for expected in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        nothing_for(SECOND * 3, &mut wakeups).await;
        wakeups.retry(wakeup);
        let waited;
        (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!(waited, MILLIS * expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_free_is_looked_at_soon_again() {
    let (_, bus) = flaky();
    take_lock(&*bus, "s").await;
    push(&*bus, &message("s", 1)).await;
    push(&*bus, &message("s", 2)).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    nothing_for(SECOND * 60, &mut wakeups).await;
    give_lock(&*bus, "s").await;
    assert_eq!(next_name(&mut wakeups).await, "s message 1");
    take_lock(&*bus, "s").await;
    nothing_for(MILLIS * 150, &mut wakeups).await;
    give_lock(&*bus, "s").await;
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!((wakeup, waited), (message("s", 2), MILLIS * 50));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_does_not_wait_as_long_as_what_came_back() {
    let (_, bus) = flaky();
    push(&*bus, &message("s", 1)).await;
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (mut wakeup, _) = next(&mut wakeups).await;
    for _ in 0..8 {
        wakeups.retry(wakeup);
        (wakeup, _) = next(&mut wakeups).await;
    }
    // Now it runs.
    take_lock(&*bus, "s").await;
    push(&*bus, &message("s", 2)).await;
    nothing_for(MILLIS * 150, &mut wakeups).await;
    give_lock(&*bus, "s").await;
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!((wakeup, waited), (message("s", 2), MILLIS * 50));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_comes_before_what_came_after_it() {
    let (_, bus) = flaky();
    for number in 1..=4 {
        push(&*bus, &message("s", number)).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (first, _) = next(&mut wakeups).await;
    let (second, _) = next(&mut wakeups).await;
    wakeups.retry(first);
    wakeups.retry(second);
    for number in 1..=4 {
        assert_eq!(next_name(&mut wakeups).await, format!("s message {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_wakeups_go_back_and_the_free_ones_are_found() {
    let (flaky, bus) = flaky();
    for session in ["a", "b", "c", "d", "e", "f"] {
        take_lock(&*bus, session).await;
        push(&*bus, &wake(session)).await;
    }
    push(&*bus, &wake("free")).await;
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).max_kept(2).batch(3).start();
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!(wakeup, wake("free"));
    assert!(waited <= SECOND * 10, "{waited:?}");

    // The rest goes round, at a leisurely pace.
    let before = (flaky.calls("drain"), flaky.calls("push"));
    nothing_for(SECOND * 100, &mut wakeups).await;
    let (drains, pushes) = (flaky.calls("drain") - before.0, flaky.calls("push") - before.1);
    assert!((15..=25).contains(&drains), "{drains}");
    assert!((45..=75).contains(&pushes), "{pushes}");

    for session in ["a", "b", "c", "d", "e", "f"] {
        give_lock(&*bus, session).await;
    }
    let mut names = Vec::new();
    for _ in 0..6 {
        names.push(next_name(&mut wakeups).await);
    }
    names.sort();
    assert_eq!(names, ["a wake", "b wake", "c wake", "d wake", "e wake", "f wake"]);
    nothing_for(HOUR, &mut wakeups).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_beyond_the_limit_goes_to_the_queue() {
    let (_, bus) = flaky();
    for number in 0..3 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).max_kept(1).start();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(next(&mut wakeups).await.0);
    }
    all.into_iter().for_each(|wakeup| wakeups.retry(wakeup));
    let mut names = Vec::new();
    for _ in 0..3 {
        let (wakeup, waited) = next(&mut wakeups).await;
        assert!(waited <= SECOND * 5, "{waited:?}");
        names.push(wakeup.session_id);
    }
    names.sort();
    assert_eq!(names, ["s0", "s1", "s2"]);
    wakeups.close().await.unwrap();
    assert_eq!(queued(&*bus).await, [""; 0]);
}
