//! What only [`MemoryBus`] promises: bounds, what it counts, and what it leaves behind.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tower_offload::bus::{
    BusError, Delivery, LeaseOptions, Lock, LockExt, Log, MemoryBusStats, MessageBus, PubSub, Queue,
    Registry, SharedBus, SubscriptionEvent, keys,
};
use tower_offload::{MemoryBus, TaskMeta};

use super::conformance::{Harness, conformance};

struct Memory(SharedBus);

impl Memory {
    fn new() -> Self {
        Self(Arc::new(MemoryBus::new()))
    }
}

#[async_trait]
impl Harness for Memory {
    fn bus(&self) -> SharedBus {
        Arc::clone(&self.0)
    }

    async fn pass(&self, time: Duration) {
        // The runtime's clock is paused, so that this takes no time. Unlike `tokio::time::advance` it stops at each timer
        // on the way, as real time does.
        tokio::time::sleep(time).await;
    }

    async fn age(&self, by: Duration) {
        self.pass(by).await;
    }
}

conformance!(
    keeps_the_promises,
    Memory::new(),
    parallel = tokio::test(flavor = "multi_thread", worker_threads = 4),
    timed = tokio::test(start_paused = true)
);

const SECOND: Duration = Duration::from_secs(1);

/// The bus needs no runtime: whatever it does is done by the first poll.
#[track_caller]
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a call on the memory bus never waits")
}

fn push_all(bus: &MemoryBus, key: &str, payloads: impl IntoIterator<Item = impl ToString>) {
    for payload in payloads {
        now(bus.push(key, &payload.to_string(), None)).unwrap();
    }
}

fn drain(bus: &MemoryBus, key: &str) -> Vec<String> {
    now(bus.drain(key, usize::MAX)).unwrap().into_iter().map(|entry| entry.payload).collect()
}

fn read(bus: &MemoryBus, key: &str) -> Vec<String> {
    now(bus.read(key, None, usize::MAX)).unwrap().into_iter().map(|entry| entry.payload).collect()
}

fn delivery(session: &str, key: &str, payload: &str) -> Delivery {
    Delivery::new(key, &TaskMeta::new("u", "t").with_session(session), payload.to_owned())
}

#[track_caller]
fn source(error: &BusError) -> String {
    std::error::Error::source(error).expect("a bus error has a source").to_string()
}

#[test]
fn a_full_queue_drops_its_oldest_entries_and_counts_them() {
    let bus = MemoryBus::builder().max_queue_entries(3).build();
    push_all(&bus, "other", 0..3);
    push_all(&bus, "q", 0..10);
    assert_eq!(now(bus.len("q")).unwrap(), 3);
    assert_eq!(bus.stats().dropped_entries, 7);
    assert_eq!(drain(&bus, "q"), ["7", "8", "9"]);
    assert_eq!(drain(&bus, "other"), ["0", "1", "2"]);
}

#[test]
fn a_full_log_drops_its_oldest_entries_and_counts_only_what_was_not_asked_for() {
    let bus = MemoryBus::builder().max_log_entries(4).build();
    for number in 0..10 {
        now(bus.append("asked", &number.to_string(), None, Some(2))).unwrap();
    }
    assert_eq!(read(&bus, "asked"), ["8", "9"]);
    assert_eq!(bus.stats().dropped_entries, 0);
    for number in 0..10 {
        now(bus.append("log", &number.to_string(), None, Some(100))).unwrap();
    }
    assert_eq!(read(&bus, "log"), ["6", "7", "8", "9"]);
    assert_eq!(bus.stats().dropped_entries, 6);

    now(bus.append("none", "x", None, Some(0))).unwrap();
    assert_eq!(bus.stats().logs, 2);
}

#[test]
fn trimming_is_exact() {
    let bus = MemoryBus::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(now(bus.append("log", &number.to_string(), None, None)).unwrap());
    }
    now(bus.trim("log", Some(ids[3]))).unwrap();
    assert_eq!(read(&bus, "log"), ["3", "4"]);
    now(bus.trim("log", None)).unwrap();
    assert_eq!(bus.stats(), MemoryBusStats::default());
}

#[test]
fn at_the_limit_of_bytes_the_oldest_of_all_go() {
    let bus = MemoryBus::builder().max_stored_bytes(20_000).build();
    let payload = "x".repeat(4_000);
    now(bus.push("first", &payload, None)).unwrap();
    now(bus.append("second", &payload, None, None)).unwrap();
    now(bus.push("third", &payload, None)).unwrap();
    now(bus.push("first", "small", None)).unwrap();
    assert_eq!(bus.stats().dropped_entries, 0);

    now(bus.push("fourth", &"y".repeat(6_000), None)).unwrap();
    assert_eq!(drain(&bus, "first"), ["small"], "its first entry was the oldest of all");
    assert_eq!(read(&bus, "second").len(), 1);
    assert_eq!(bus.stats().dropped_entries, 1);

    now(bus.push("fifth", &"z".repeat(9_000), None)).unwrap();
    assert_eq!(read(&bus, "second").len(), 0);
    assert_eq!((drain(&bus, "third").len(), drain(&bus, "fourth").len()), (0, 1));
    assert_eq!(bus.stats().dropped_entries, 3);
}

#[test]
fn many_short_keys_stay_within_the_limit() {
    let bus = MemoryBus::builder().max_stored_bytes(100_000).build();
    for session in 0..5_000 {
        push_all(&bus, &session.to_string(), ["{}"]);
        let stats = bus.stats();
        assert!(stats.queued_bytes <= 100_000);
        assert!(stats.queues <= 300, "a key costs more than its letters");
    }
    let stats = bus.stats();
    assert_eq!(stats.queued_entries as u64 + stats.dropped_entries, 5_000);
    assert_eq!(drain(&bus, "4999"), ["{}"]);
    assert_eq!(drain(&bus, "0"), [""; 0]);
}

/// The same, but for more writes that were refused.
fn refused(mut stats: MemoryBusStats, writes: u64) -> MemoryBusStats {
    stats.refused_writes += writes;
    stats
}

#[test]
fn what_cannot_fit_is_refused_and_nothing_is_dropped_for_it() {
    let bus = MemoryBus::builder().max_stored_bytes(10_000).build();
    push_all(&bus, "q", ["kept"]);
    now(bus.append("log", "kept", None, None)).unwrap();
    let before = bus.stats();

    let large = "x".repeat(10_000);
    let error = now(bus.push("q", &large, None)).unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not store an entry");
    assert!(source(&error).contains("10000 bytes"), "{}", source(&error));
    assert!(now(bus.append("log", &large, None, None)).is_err());
    assert!(now(bus.push(&large, "", None)).is_err(), "a key counts as well");
    assert_eq!(bus.stats(), refused(before, 3));
}

#[test]
fn a_delivery_that_cannot_fit_is_not_half_done() {
    let bus = MemoryBus::builder().max_stored_bytes(10_000).build();
    let mut signals = now(bus.subscribe(&[keys::WAKEUP_SIGNAL])).unwrap();
    let before = bus.stats();
    // The second one alone would fit, but not together with its wakeup.
    for (count, size) in [(1, 10_000), (2, 9_300)] {
        assert!(now(bus.deliver(&delivery("s", "k", &"x".repeat(size)))).is_err());
        assert_eq!(bus.stats(), refused(before, count));
        assert!(signals.recv().now_or_never().is_none());
    }
    assert!(now(bus.deliver(&delivery("s", "k", "smaller"))).unwrap(), "it was not remembered");

    // What has room together stays together, whatever has to go for it.
    push_all(&bus, "other", 0..20);
    assert!(now(bus.deliver(&delivery("s", "k2", &"x".repeat(8_500)))).unwrap());
    assert_eq!((drain(&bus, &keys::inbox("s")).len(), drain(&bus, keys::WAKEUPS).len()), (1, 1));
}

#[test]
fn the_newest_deliveries_are_recognised() {
    let bus = MemoryBus::builder().remembered_deliveries(2).build();
    for key in ["a", "b", "c"] {
        assert!(now(bus.deliver(&delivery("s", key, "{}"))).unwrap());
    }
    assert!(!now(bus.deliver(&delivery("s", "b", "{}"))).unwrap());
    assert!(!now(bus.deliver(&delivery("s", "c", "{}"))).unwrap());
    assert!(now(bus.deliver(&delivery("s", "a", "{}"))).unwrap(), "forgotten by now");
    assert_eq!(bus.stats().remembered_deliveries, 2);

    let bus = MemoryBus::builder().remembered_deliveries(0).build();
    assert!(now(bus.deliver(&delivery("s", "a", "{}"))).unwrap());
    assert!(now(bus.deliver(&delivery("s", "a", "{}"))).unwrap());
    assert_eq!(bus.stats().remembered_deliveries, 0);
}

#[test]
fn a_full_registry_refuses_and_keeps_what_it_has() {
    let bus = MemoryBus::builder().max_registry_bytes(1_970).build();
    let value = "x".repeat(400);
    now(bus.set("ns", "a", &value, None)).unwrap();
    now(bus.set("ns", "b", &value, None)).unwrap();
    let before = bus.stats();

    let error = now(bus.set("ns", "c", &value, Some(Duration::ZERO))).unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not write to the registry");
    assert!(source(&error).contains("of 1970 bytes"), "{}", source(&error));
    assert!(now(bus.set_if("ns", "a", &"y".repeat(1_000), &value, Some(Duration::ZERO))).is_err());
    assert!(now(bus.set("new", "a", "", None)).is_ok());
    assert!(now(bus.try_acquire("lock", "token", SECOND)).is_err(), "locks count as well");
    now(bus.clear("new")).unwrap();
    assert_eq!(bus.stats(), refused(before, 3));
    assert_eq!(now(bus.get("ns", "a")).unwrap().as_deref(), Some(value.as_str()));

    // Over what is there, and in the place of what went.
    now(bus.set("ns", "a", &value.replace('x', "y"), None)).unwrap();
    now(bus.remove("ns", "a")).unwrap();
    now(bus.set("ns", "c", &value, None)).unwrap();
    now(bus.clear("ns")).unwrap();
    assert_eq!(bus.stats(), refused(MemoryBusStats::default(), 3));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_makes_room_though_nobody_asks_for_it() {
    let bus = MemoryBus::builder().max_registry_bytes(1_500).build();
    bus.set("a", "f", &"x".repeat(400), Some(SECOND)).await.unwrap();
    bus.try_acquire("lock", "token", SECOND).await.unwrap();
    assert!(bus.set("b", "f", &"x".repeat(800), None).await.is_err());
    tokio::time::sleep(SECOND).await;
    bus.set("b", "f", &"x".repeat(800), None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_freed_though_nobody_asks_for_it() {
    let bus = MemoryBus::new();
    for number in 0..100_u32 {
        let (key, ttl) = (number.to_string(), Some(SECOND * (number % 10 + 1)));
        bus.set(&key, "f", "v", ttl).await.unwrap();
        bus.push(&key, "{}", ttl).await.unwrap();
        bus.append(&key, "{}", ttl, None).await.unwrap();
        bus.try_acquire(&key, "token", SECOND * (number % 10 + 1)).await.unwrap();
    }
    for second in 1..=10 {
        let stats = bus.stats();
        let left = 110 - second * 10;
        assert_eq!((stats.namespaces, stats.queues, stats.logs, stats.locks), (left, left, left, left));
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(bus.stats(), MemoryBusStats::default(), "and nothing of it counts as dropped");
}

#[tokio::test(start_paused = true)]
async fn a_ttl_ends_to_the_millisecond() {
    let bus = MemoryBus::new();
    bus.set("ns", "f", "v", Some(SECOND)).await.unwrap();
    bus.try_acquire("lock", "token", SECOND).await.unwrap();
    tokio::time::advance(SECOND - Duration::from_millis(1)).await;
    assert!(bus.contains("ns", "f").await.unwrap() && bus.is_locked("lock").await.unwrap());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!bus.contains("ns", "f").await.unwrap() && !bus.is_locked("lock").await.unwrap());
}

#[test]
fn what_is_taken_or_deleted_leaves_nothing_behind() {
    let bus = MemoryBus::new();
    for round in 0..50 {
        let key = format!("k{round}");
        let long = Some(SECOND * 1_000);
        push_all(&bus, &key, 0..5);
        now(bus.push(&key, "{}", long)).unwrap();
        push_all(&bus, &format!("deleted{round}"), 0..5);
        now(bus.append(&key, "{}", long, None)).unwrap();
        now(bus.set(&key, "a", "1", long)).unwrap();
        now(bus.set(&key, "b", "1", long)).unwrap();
        now(bus.try_acquire(&key, "token", SECOND)).unwrap();
        drop(now(bus.subscribe(&[&key, "common"])).unwrap());
    }
    let stats = bus.stats();
    assert_eq!((stats.queues, stats.queued_entries, stats.logs, stats.logged_entries), (100, 550, 50, 50));
    assert_eq!((stats.namespaces, stats.fields, stats.locks), (50, 100, 50));
    for round in 0..50 {
        let key = format!("k{round}");
        drain(&bus, &key);
        now(bus.delete(&format!("deleted{round}"))).unwrap();
        now(bus.trim(&key, None)).unwrap();
        now(bus.remove(&key, "a")).unwrap();
        now(bus.take(&key, "b")).unwrap();
        now(bus.release(&key, "token")).unwrap();
    }
    assert_eq!(bus.stats(), MemoryBusStats::default());
}

#[test]
fn a_slow_subscriber_is_told_what_it_lost_and_holds_nobody_up() {
    let bus = MemoryBus::builder().subscriber_capacity(2).build();
    let mut slow = now(bus.subscribe(&["c"])).unwrap();
    let mut quick = now(bus.subscribe(&["c"])).unwrap();
    let mut heard = Vec::new();
    for number in 0..5 {
        now(bus.publish("c", &number.to_string())).unwrap();
        if let Some(SubscriptionEvent::Message(message)) = now(quick.recv()) {
            heard.push(message.payload.to_string());
        }
    }
    assert_eq!(heard, ["0", "1", "2", "3", "4"]);
    assert!(matches!(now(slow.recv()), Some(SubscriptionEvent::Lagged(3))));
    for expected in ["0", "1"] {
        let event = now(slow.recv());
        assert!(matches!(event, Some(SubscriptionEvent::Message(message)) if &*message.payload == expected));
    }
    assert!(slow.recv().now_or_never().is_none());
    now(bus.publish("c", "5")).unwrap();
    assert!(matches!(now(slow.recv()), Some(SubscriptionEvent::Message(_))));
    assert_eq!(bus.stats().lagged_messages, 3);
}

#[test]
fn dropped_subscriptions_are_not_counted() {
    let bus = MemoryBus::new();
    let one = now(bus.subscribe(&["a", "b"])).unwrap();
    let other = now(bus.subscribe(&["b"])).unwrap();
    assert_eq!((bus.stats().channels, bus.stats().subscribers), (2, 3));
    drop(one);
    assert_eq!((bus.stats().channels, bus.stats().subscribers), (1, 1));
    drop(other);
    assert_eq!(bus.stats(), MemoryBusStats::default());
}

#[test]
fn a_publisher_forgets_those_that_are_gone() {
    let bus = MemoryBus::new();
    drop(now(bus.subscribe(&["c"])).unwrap());
    let mut left = now(bus.subscribe(&["c"])).unwrap();
    now(bus.publish("c", "1")).unwrap();
    assert!(matches!(now(left.recv()), Some(SubscriptionEvent::Message(_))));
    assert_eq!((bus.stats().channels, bus.stats().subscribers), (1, 1));
}

#[test]
fn subscriptions_end_with_the_last_handle() {
    let bus = MemoryBus::new();
    let clone = bus.clone();
    let mut subscription = now(bus.subscribe(&["c"])).unwrap();
    now(bus.publish("c", "1")).unwrap();
    drop(bus);
    now(clone.publish("c", "2")).unwrap();
    drop(clone);
    assert!(matches!(now(subscription.recv()), Some(SubscriptionEvent::Message(_))));
    assert!(matches!(now(subscription.recv()), Some(SubscriptionEvent::Message(_))));
    assert!(now(subscription.recv()).is_none());
    assert!(now(now(MemoryBus::new().subscribe(&[])).unwrap().recv()).is_none());
}

#[test]
fn clones_are_one_bus_and_new_ones_are_not() {
    let bus = MemoryBus::new();
    now(bus.clone().set("ns", "f", "v", None)).unwrap();
    assert!(now(bus.contains("ns", "f")).unwrap());
    assert!(!now(MemoryBus::new().contains("ns", "f")).unwrap());
    assert!(!bus.is_shared() && !MemoryBus::default().is_shared());
    assert!(MemoryBus::builder().shared(true).build().is_shared());
}

#[test]
fn a_queue_and_a_log_of_one_name_are_two_things() {
    let bus = MemoryBus::new();
    push_all(&bus, "k", ["queue"]);
    now(bus.append("k", "log", None, None)).unwrap();
    now(bus.set("k", "f", "registry", None)).unwrap();
    assert!(now(bus.try_acquire("k", "token", SECOND)).unwrap());
    assert_eq!((drain(&bus, "k"), read(&bus, "k")), (vec!["queue".to_owned()], vec!["log".to_owned()]));
    now(bus.clear("k")).unwrap();
    assert_eq!(read(&bus, "k"), ["log"]);
    assert!(now(bus.is_locked("k")).unwrap());
}

#[test]
fn a_call_that_is_not_polled_does_nothing() {
    let bus = MemoryBus::new();
    drop(bus.push("q", "{}", None));
    drop(bus.set("ns", "f", "v", None));
    drop(bus.deliver(&delivery("s", "k", "{}")));
    assert_eq!(bus.stats(), MemoryBusStats::default());
}

#[test]
fn a_lease_without_a_runtime_is_an_error() {
    let bus = Arc::new(MemoryBus::new());
    assert!(now(bus.lock("k", LeaseOptions::new())).is_err());
    assert!(!now(bus.is_locked("k")).unwrap());
}

#[test]
fn no_limit_makes_it_panic() {
    let least = MemoryBus::builder()
        .max_queue_entries(0)
        .max_log_entries(0)
        .max_stored_bytes(0)
        .max_registry_bytes(0)
        .subscriber_capacity(0)
        .remembered_deliveries(0)
        .build();
    assert!(now(least.push("", "", None)).is_err());
    assert!(now(least.append("", "", None, Some(0))).is_err());
    assert!(now(least.set("", "", "", None)).is_err());
    assert!(now(least.try_acquire("", "", Duration::MAX)).is_err());
    assert!(now(least.deliver(&delivery("", "", ""))).is_err());
    let mut subscription = now(least.subscribe(&[""])).unwrap();
    now(least.publish("", "")).unwrap();
    assert!(matches!(now(subscription.recv()), Some(SubscriptionEvent::Message(_))));

    let one = MemoryBus::builder().max_queue_entries(0).max_log_entries(0).build();
    push_all(&one, "q", 0..3);
    assert_eq!(drain(&one, "q"), ["2"]);

    let most = MemoryBus::builder()
        .max_queue_entries(usize::MAX)
        .max_log_entries(usize::MAX)
        .max_stored_bytes(usize::MAX)
        .max_registry_bytes(usize::MAX)
        .subscriber_capacity(usize::MAX)
        .remembered_deliveries(usize::MAX)
        .build();
    push_all(&most, "q", 0..3);
    now(most.append("l", "", Some(Duration::MAX), Some(usize::MAX))).unwrap();
    now(most.set("ns", "", "", Some(Duration::MAX))).unwrap();
    assert!(now(most.try_acquire("", "", Duration::MAX)).unwrap());
    assert!(now(most.deliver(&delivery("", "", ""))).unwrap());
    let mut subscription = now(most.subscribe(&[""])).unwrap();
    now(most.publish("", "")).unwrap();
    assert!(matches!(now(subscription.recv()), Some(SubscriptionEvent::Message(_))));
}

#[test]
fn drops_are_logged_seldom() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let bus = MemoryBus::builder().max_queue_entries(1).subscriber_capacity(1).build();
    tracing::subscriber::with_default(subscriber, || {
        push_all(&bus, "secret", 0..=100);
        let _slow = now(bus.subscribe(&["secret"])).unwrap();
        for _ in 0..=100 {
            now(bus.publish("secret", "{}")).unwrap();
        }
    });
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for (field, others) in [("dropped_entries", "oldest entries"), ("lagged_messages", "too slow")] {
        let counts: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(others))
            .filter_map(|line| line.split_once(&format!("{field}="))?.1.split_whitespace().next())
            .collect();
        assert_eq!(counts, ["1", "2", "4", "8", "16", "32", "64"], "{log}");
    }
    assert!(!log.contains("secret"), "no names of keys: they come from clients");
}

#[test]
fn debug_shows_limits_and_nothing_that_is_stored() {
    let bus = MemoryBus::new();
    push_all(&bus, "secret", ["secret"]);
    now(bus.set("secret", "secret", "secret", None)).unwrap();
    let text = format!("{bus:?}");
    assert!(text.starts_with("MemoryBus { shared: false, limits: ") && !text.contains("secret"), "{text}");
}

#[test]
fn handles_go_everywhere() {
    fn everywhere<T: Clone + Send + Sync + Unpin + std::panic::UnwindSafe + 'static>() {}
    fn sendable<T: Send>(_: &T) {}
    everywhere::<MemoryBus>();
    let bus: SharedBus = Arc::new(MemoryBus::new());
    sendable(&bus.push("", "", None));
    sendable(&bus.lock("", LeaseOptions::new()));
    sendable(&Arc::new(MemoryBus::new()).lock("", LeaseOptions::default()));
    let lock: Arc<dyn Lock> = Arc::clone(&bus) as _;
    sendable(&lock);
}
