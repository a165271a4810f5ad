//! What is handed out, to whom, and how much is taken for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_test::{assert_pending, assert_ready, task};
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{MemoryBus, MessageBus, Queue, SharedBus, Wakeups, keys};

use crate::common::{HOUR, MILLIS, flaky, message, name, next, next_name, nothing_for, push, queued, wake};
use crate::support::{SECOND, run_ready};

#[tokio::test(start_paused = true)]
async fn what_waited_before_the_start_is_handed_out_in_order() {
    let (flaky, bus) = flaky();
    for number in 0..200 {
        bus.push(keys::WAKEUPS, &serde_json::to_string(&wake(&format!("s{number}"))).unwrap(), None)
            .await
            .unwrap();
    }
    let mut wakeups = Wakeups::start(bus);
    for number in 0..200 {
        let (wakeup, waited) = next(&mut wakeups).await;
        assert_eq!((wakeup.session_id, waited), (format!("s{number}"), Duration::ZERO));
    }
    // Four batches; the end of the queue is only looked for with the next call.
    assert_eq!(flaky.calls("drain"), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_signalled_comes_at_once() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    for number in 0..3 {
        let mut recv = task::spawn(wakeups.recv());
        assert_pending!(recv.poll());
        run_ready().await;
        push(&*bus, &message(&format!("s{number}"), number)).await;
        run_ready().await;
        assert_eq!(assert_ready!(recv.poll()), Some(message(&format!("s{number}"), number)));
    }
}

#[tokio::test(start_paused = true)]
async fn each_wakeup_goes_to_one_of_two_processes() {
    let (_, bus) = flaky();
    let hosts = [Wakeups::start(Arc::clone(&bus)), Wakeups::start(Arc::clone(&bus))].map(|mut wakeups| {
        tokio::spawn(async move {
            let mut names = Vec::new();
            while let Ok(Some(wakeup)) = tokio::time::timeout(HOUR, wakeups.recv()).await {
                names.push(name(&wakeup));
                tokio::task::yield_now().await;
            }
            names
        })
    });
    let mut expected = Vec::new();
    for number in 0..1_000 {
        let wakeup = message(&format!("s{}", number % 300), number);
        push(&*bus, &wakeup).await;
        expected.push(name(&wakeup));
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = Vec::new();
    for host in hosts {
        let names = host.await.unwrap();
        assert!(names.len() > 100, "both get their share: {}", names.len());
        seen.extend(names);
    }
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_that_nobody_asks_for() {
    let (flaky, bus) = flaky();
    for number in 0..200 {
        push(&*bus, &wake(&format!("s{number:03}"))).await;
    }
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    tokio::time::sleep(HOUR).await;
    assert_eq!((flaky.calls("drain"), bus.len(keys::WAKEUPS).await.unwrap()), (0, 200));

    // One batch for one call, and the rest of it goes to those who ask.
    assert_eq!(next_name(&mut wakeups).await, "s000 wake");
    assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 136);
    tokio::time::sleep(SECOND * 6).await;
    let queued = queued(&*bus).await;
    assert_eq!(queued.len(), 199);
    assert_eq!((&*queued[0], &*queued[198]), ("s064 wake", "s063 wake"));
    assert_eq!(flaky.calls("drain"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_leaves_everything_else_to_others() {
    let (_, bus) = flaky();
    for number in 0..5 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).batch(1).start();
    for left in [4, 3] {
        next(&mut wakeups).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_recv_loses_nothing() {
    let (_, bus) = flaky();
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    for number in 0..50 {
        assert_pending!(task::spawn(wakeups.recv()).poll());
        push(&*bus, &message("s", number)).await;
        // Dropped once more when it may be there already.
        run_ready().await;
        drop(wakeups.recv());
        tokio::time::sleep(SECOND).await;
        assert_eq!(next_name(&mut wakeups).await, format!("s message {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn asking_again_is_asking_once() {
    let (_, bus) = flaky();
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).batch(1).start();
    for _ in 0..3 {
        assert_pending!(task::spawn(wakeups.recv()).poll());
        run_ready().await;
    }
    for number in 0..3 {
        push(&*bus, &wake(&format!("s{number}"))).await;
    }
    next(&mut wakeups).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_skipped() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    let ids = r#""user_id": "u", "session_id": "s", "agent_id": "a""#;
    let malformed = [
        "".to_owned(),
        "not JSON".to_owned(),
        "null".to_owned(),
        "[1]".to_owned(),
        r#"["u", "s", "a", "wake", null]"#.to_owned(),
        r#""text""#.to_owned(),
        "{}".to_owned(),
        r#"{"user_id": "u", "session_id": "s"}"#.to_owned(),
        r#"{"user_id": "u", "session_id": 7, "agent_id": "a"}"#.to_owned(),
        r#"{"user_id": null, "session_id": "s", "agent_id": "a"}"#.to_owned(),
        format!(r#"{{{ids}, "kind": 1}}"#),
        format!(r#"{{{ids}, "kind": "resume"}}"#),
        format!(r#"{{{ids}, "kind": "message", "input": null}}"#),
        format!(r#"{{{ids}, "kind": "message", "input": "hello"}}"#),
        format!(r#"{{{ids}, "kind": "message", "input": {{"a": NaN}}}}"#),
        "[".repeat(100_000),
    ];
    for entry in &malformed {
        bus.push(keys::WAKEUPS, entry, None).await.unwrap();
    }
    let good = [format!("{{{ids}}}"), format!(r#"{{{ids}, "user_id": "later", "session_id": "t"}}"#)];
    for entry in &good {
        bus.push(keys::WAKEUPS, entry, None).await.unwrap();
    }
    // One at a time, so that a batch can have nothing good in it.
    let mut wakeups = Wakeups::builder(Arc::clone(&bus)).batch(1).start();
    let (wakeup, waited) = next(&mut wakeups).await;
    assert_eq!(
        (wakeup, waited),
        (Wakeup::wake("u", "s", "a"), Duration::ZERO),
        "without a kind it is a plain one"
    );
    assert_eq!(next(&mut wakeups).await.0, Wakeup::wake("later", "t", "a"));
    nothing_for(HOUR, &mut wakeups).await;
    wakeups.close().await.unwrap();
    assert_eq!(queued(&*bus).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn kinds_and_fields_of_others_are_passed_on_and_put_back() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    let entry = json!({
        "user_id": "u", "session_id": "s", "agent_id": "a", "kind": "nudge", "input": [1], "channel_user_id": "c",
    });
    bus.push(keys::WAKEUPS, &entry.to_string(), None).await.unwrap();
    let mut wakeups = Wakeups::start(Arc::clone(&bus));
    let (wakeup, _) = next(&mut wakeups).await;
    assert_eq!((&*wakeup.kind, &wakeup.extra["channel_user_id"]), ("nudge", &json!("c")));
    wakeups.retry(wakeup);
    wakeups.close().await.unwrap();
    let back = bus.drain(keys::WAKEUPS, 10).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&back[0].payload).unwrap(), entry);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_signalled_is_found() {
    let bus = MemoryBus::new();
    let push_silently = async || bus.push(keys::WAKEUPS, &json!(wake("s")).to_string(), None).await.unwrap();
    for (wakeups, interval) in [
        (Wakeups::builder(Arc::new(bus.clone())), SECOND * 30),
        (Wakeups::builder(Arc::new(bus.clone())).poll_every(SECOND * 7), SECOND * 7),
        (Wakeups::builder(Arc::new(bus.clone())).poll_every(Duration::ZERO), MILLIS),
    ] {
        let mut wakeups = wakeups.start();
        nothing_for(SECOND * 2, &mut wakeups).await;
        push_silently().await;
        let (_, waited) = next(&mut wakeups).await;
        assert!(waited <= interval && waited + SECOND * 3 > interval.min(SECOND * 3), "{waited:?}");
        wakeups.close().await.unwrap();
    }
    // Durations that no clock can express.
    let mut wakeups = Wakeups::builder(Arc::new(bus.clone()))
        .poll_every(Duration::MAX)
        .backoff(Duration::MAX, SECOND)
        .start();
    nothing_for(SECOND, &mut wakeups).await;
    push(&bus as &dyn MessageBus, &wake("s")).await;
    let (wakeup, _) = next(&mut wakeups).await;
    wakeups.retry(wakeup);
    nothing_for(HOUR * 24 * 365, &mut wakeups).await;
}

#[test]
#[should_panic(expected = "there is no reactor running")]
fn outside_of_a_runtime_starting_panics() {
    drop(Wakeups::start(Arc::new(MemoryBus::new())));
}
