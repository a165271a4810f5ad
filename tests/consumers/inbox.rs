//! An inbox while it is open.

use std::sync::Arc;

use tokio_test::{assert_pending, task};
use tower_offload::bus::{Closing, Entry, Inbox, MemoryBus, MessageBus, SharedBus, keys};

use crate::common::{HOUR, delivery, flaky, is_consumed, queued, wake};
use crate::support::{SECOND, run_ready};

async fn payloads(inbox: &Inbox) -> Vec<String> {
    inbox.drain(100).await.unwrap().into_iter().map(|entry| entry.payload).collect()
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_results_wake_nobody() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    assert!(bus.deliver(&delivery("s", "1")).await.unwrap());
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    assert_eq!(inbox.session_id(), "s");
    let flag = bus.get(&keys::inbox_consumer("s"), "running").await.unwrap();
    assert_eq!(flag.as_deref(), Some("1"), "as AgentScope writes it");
    assert!(!bus.deliver(&delivery("s", "2")).await.unwrap());
    assert!(bus.deliver(&delivery("other", "3")).await.unwrap());

    assert_eq!(inbox.drain(1).await.unwrap().len(), 1);
    assert_eq!(payloads(&inbox).await, [r#"{"result": "2"}"#]);
    assert_eq!(payloads(&inbox).await, [""; 0]);
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    assert!(!is_consumed(&*bus, "s").await);
    assert!(bus.deliver(&delivery("s", "4")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_flag_is_renewed_as_long_as_it_is_open() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    for minute in 0..60 {
        assert!(is_consumed(&*bus, "s").await, "in minute {minute}");
        tokio::time::sleep(SECOND * 60).await;
    }
    run_ready().await;
    assert_eq!(flaky.calls("set"), 1 + 18, "every third of ten minutes");

    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    tokio::time::sleep(HOUR).await;
    assert_eq!(flaky.calls("set"), 19);
    assert!(!is_consumed(&*bus, "s").await);
}

#[tokio::test(start_paused = true)]
async fn without_its_process_the_flag_ends_after_ten_minutes() {
    let bus = MemoryBus::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared: SharedBus = Arc::new(bus.clone());
    let opened = std::thread::spawn(move || {
        let inbox = runtime.block_on(async { Inbox::open(shared, &wake("s")).await.unwrap() });
        drop(runtime);
        // With its runtime gone nobody can close it.
        drop(inbox);
    });
    opened.join().unwrap();
    let is_up = async || is_consumed(&bus as &dyn MessageBus, "s").await;
    assert!(is_up().await);
    tokio::time::sleep(SECOND * 599).await;
    assert!(is_up().await);
    tokio::time::sleep(SECOND * 2).await;
    assert!(!is_up().await);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    tokio::time::sleep(SECOND * 199).await;
    flaky.fail_next(usize::MAX);
    tokio::time::sleep(SECOND * 390).await;
    flaky.fail_next(0);
    flaky.hang_next("set");
    tokio::time::sleep(SECOND * 10).await;
    flaky.hang_next("nothing");
    for _ in 0..60 {
        tokio::time::sleep(SECOND * 60).await;
        assert!(is_consumed(&*bus, "s").await);
    }
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_under_way_does_not_outlive_the_end() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    flaky.hang_next("set");
    tokio::time::sleep(SECOND * 201).await;
    assert_eq!(flaky.calls("set"), 2);
    let mut closing = task::spawn(inbox.close());
    assert_pending!(closing.poll());
    assert!(matches!(closing.await.unwrap(), Closing::Closed));
    tokio::time::sleep(HOUR).await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!(flaky.calls("set"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_waits_for_the_end_does_not_come_after_it() {
    let (flaky, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    tokio::time::sleep(SECOND * 199).await;
    flaky.slow_next("finish an inbox", SECOND * 5);
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    tokio::time::sleep(SECOND).await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!(flaky.calls("set"), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_closed_while_something_waits() {
    let (_, bus) = flaky();
    let mut inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    for round in 0..3 {
        bus.deliver(&delivery("s", &round.to_string())).await.unwrap();
        let Closing::Waiting(again) = inbox.close().await.unwrap() else { panic!("something waits") };
        assert!(is_consumed(&*bus, "s").await);
        assert_eq!(payloads(&again).await, [format!(r#"{{"result": "{round}"}}"#)]);
        inbox = again;
        // Renewed as before.
        tokio::time::sleep(HOUR).await;
        assert!(is_consumed(&*bus, "s").await);
    }
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    assert_eq!(queued(&*bus).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_back_comes_again_in_its_order() {
    let (_, bus) = flaky();
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    for number in 0..5 {
        bus.deliver(&delivery("s", &number.to_string())).await.unwrap();
    }
    let mut drained = inbox.drain(4).await.unwrap();
    let before = drained.clone();
    inbox.hand_back(&mut drained).await.unwrap();
    assert_eq!(drained, []);

    let again = inbox.drain(100).await.unwrap();
    let texts = |entries: &[Entry]| Vec::from_iter(entries.iter().map(|entry| entry.payload.clone()));
    // Behind the one that was left.
    assert_eq!(texts(&again[..1]), [r#"{"result": "4"}"#]);
    assert_eq!(texts(&again[1..]), texts(&before));
    assert!(again.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(queued(&*bus).await, [""; 0], "nobody is woken");
    inbox.hand_back(&mut Vec::new()).await.unwrap();
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_read_stay_until_they_are_removed() {
    let (_, bus) = flaky();
    for number in 0..3 {
        bus.deliver(&delivery("s", &number.to_string())).await.unwrap();
    }
    let first = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    let read = first.peek(2).await.unwrap();
    assert_eq!(read.len(), 2);
    first.remove_through(read[0].id).await.unwrap();
    // The run fails before it has removed the second entry.
    drop(first);
    tokio::time::sleep(SECOND).await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!(queued(&*bus).await.len(), 4, "those of the deliveries and that of the failed run");

    let second = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    let again = second.peek(100).await.unwrap();
    assert_eq!(again[0], read[1]);
    let Closing::Waiting(second) = second.close().await.unwrap() else { panic!("it has entries") };
    second.remove_through(again[1].id).await.unwrap();
    assert!(matches!(second.close().await.unwrap(), Closing::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_handed_back_is_still_in_hand() {
    let bus: SharedBus = Arc::new(MemoryBus::builder().max_stored_bytes(5_000).build());
    let inbox = Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    let id = bus.push("elsewhere", "", None).await.unwrap();
    let entry = |payload: &str| Entry::new(id, payload);
    let mut entries = vec![entry("1"), entry("2"), entry(&"x".repeat(10_000)), entry("4")];
    inbox.hand_back(&mut entries).await.unwrap_err();
    assert_eq!((entries.len(), &*entries[1].payload), (2, "4"));
    assert_eq!(payloads(&inbox).await, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_could_not_be_opened_leaves_no_flag() {
    let (flaky, bus) = flaky();
    flaky.fail_next(1);
    Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap_err();
    run_ready().await;
    assert!(!is_consumed(&*bus, "s").await);
    // One whose answer does not come, with the flag up.
    flaky.inner.deliver(&delivery("s", "1")).await.unwrap();
    bus.drain(keys::WAKEUPS, 10).await.unwrap();
    flaky.hang_next("set");
    let wakeup = wake("s");
    let mut opening = Box::pin(Inbox::open(Arc::clone(&bus), &wakeup));
    assert_pending!(task::spawn(&mut opening).poll());
    bus.set(&keys::inbox_consumer("s"), keys::CONSUMER_RUNNING, "1", None).await.unwrap();
    drop(opening);
    tokio::time::sleep(SECOND).await;
    assert!(!is_consumed(&*bus, "s").await);
    assert_eq!(queued(&*bus).await, ["s wake"], "what was delivered while the flag was up");
}

#[test]
fn outside_of_a_runtime_opening_fails() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    tokio_test::assert_ready!(task::spawn(Inbox::open(bus, &wake("s"))).poll()).unwrap_err();
}
