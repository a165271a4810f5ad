//! What happens at the bounds of [`MemoryBus`] when one client fills them: it must not be at the cost of the others.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tower_offload::bus::{
    Delivery, Directory, Lock, MessageBus, OwnerLease, PubSub, Queue, Registry, Retention, TaskWrite,
    TaskWritten, keys,
};
use tower_offload::task::{TaskRecord, TaskStatus};
use tower_offload::{MemoryBus, TaskManager, TaskMeta};

use crate::log::Lines;

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

#[track_caller]
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a call on the memory bus never waits")
}

fn deliver(bus: &MemoryBus, user: &str, session: &str) {
    let meta = TaskMeta::new(user, "tool").with_session(session).with_agent("agent");
    now(bus.deliver(&Delivery::new("key", &meta, format!("of {user}")))).unwrap();
}

fn inbox(bus: &MemoryBus, session: &str) -> Vec<String> {
    let entries = now(bus.drain(&keys::inbox(session), usize::MAX)).unwrap();
    entries.into_iter().map(|entry| entry.payload).collect()
}

#[test]
fn the_results_of_one_user_do_not_crowd_out_those_of_another() {
    let bus = MemoryBus::builder().max_stored_bytes(1 << 20).build();
    for number in 0..20 {
        deliver(&bus, "bob", &format!("bob {number}"));
    }
    // Many sessions, and one with much in it.
    for number in 0..20_000 {
        deliver(&bus, "alice", &format!("alice {number}"));
    }
    let meta = TaskMeta::new("alice", "tool").with_session("alice").with_agent("agent");
    for number in 0..1_000 {
        now(bus.deliver(&Delivery::new(number.to_string(), &meta, "x".repeat(10_000)))).unwrap();
    }
    let stats = bus.stats();
    assert!(stats.dropped_entries > 20_000 && stats.queued_bytes <= 1 << 20, "{stats:?}");
    for number in 0..20 {
        assert_eq!(inbox(&bus, &format!("bob {number}")), ["of bob"]);
    }
    // The newest of the one that fills it is there too, and what the program queues.
    assert!(!inbox(&bus, "alice").is_empty());
    now(bus.push("q", "of the program", None)).unwrap();
    assert_eq!(now(bus.len("q")).unwrap(), 1);
}

#[test]
fn the_wakeups_of_one_user_do_not_crowd_out_those_of_another() {
    let bus = MemoryBus::builder().max_queue_entries(100).build();
    deliver(&bus, "bob", "bob's");
    for session in 0..1_000 {
        deliver(&bus, "alice", &format!("s{session}"));
    }
    deliver(&bus, "carol", "carol's");
    // What a runner puts back is still its user's.
    let first = now(bus.drain(keys::WAKEUPS, 1)).unwrap().remove(0).payload;
    assert!(first.contains("bob's"), "{first}");
    now(bus.push(keys::WAKEUPS, &first, None)).unwrap();
    for session in 1_000..2_000 {
        deliver(&bus, "alice", &format!("s{session}"));
    }
    assert_eq!(now(bus.len(keys::WAKEUPS)).unwrap(), 100);
    let peeked = now(bus.peek(keys::WAKEUPS, usize::MAX)).unwrap();
    now(bus.remove_through(keys::WAKEUPS, peeked[0].id)).unwrap();
    let left = now(bus.drain(keys::WAKEUPS, usize::MAX)).unwrap();
    assert_eq!(left, peeked[1..]);
    assert!(peeked.is_sorted_by_key(|entry| entry.id), "in the order in which they came");
    let of = |user: &str| peeked.iter().filter(|entry| entry.payload.contains(user)).count();
    assert_eq!((of("\"bob\""), of("\"carol\""), of("\"alice\"")), (1, 1, 98));
    assert!(peeked.last().unwrap().payload.contains("s1999"), "the oldest have gone");
}

#[test]
fn namespaces_that_will_expire_give_way_to_new_ones() {
    let bus = MemoryBus::builder().max_registry_bytes(1 << 20).build();
    now(bus.set("for good", "f", "1", None)).unwrap();
    assert!(now(bus.try_acquire("lock", "token", MONTH)).unwrap());
    now(bus.set("renewed", "f", "1", Some(MONTH))).unwrap();
    now(bus.set("forgotten", "f", "1", Some(MONTH))).unwrap();
    // One client makes sessions, each with something that lives for a month.
    for number in 0..100_000 {
        now(bus.set(&format!("session {number}"), "owner", "alice", Some(MONTH))).unwrap();
        if number % 100 == 0 {
            now(bus.set("renewed", "f", "1", None)).unwrap();
        }
    }
    let stats = bus.stats();
    assert!(stats.registry_bytes <= 1 << 20, "{stats:?}");
    assert_eq!(stats.namespaces as u64 + stats.dropped_from_registry, 100_003);

    // And the others use the bus as before.
    for (namespace, is_there) in [("for good", true), ("renewed", true), ("forgotten", false)] {
        assert_eq!(now(bus.contains(namespace, "f")).unwrap(), is_there, "{namespace}");
    }
    assert!(now(bus.contains("session 99999", "owner")).unwrap());
    assert!(now(bus.is_locked("lock")).unwrap());
    assert!(now(bus.try_acquire("another lock", "token", SECOND)).unwrap());
    now(bus.set("bob", "f", &"x".repeat(10_000), None)).unwrap();
}

#[test]
fn what_lives_for_good_is_refused_at_the_limit_and_nothing_goes_for_what_cannot_fit() {
    let bus = MemoryBus::builder().max_registry_bytes(10_000).build();
    now(bus.set("large", "a", &"x".repeat(4_000), Some(MONTH))).unwrap();
    // A namespace does not lose its own fields to a new one.
    now(bus.set("large", "b", &"x".repeat(8_000), None)).unwrap_err();
    assert!(now(bus.contains("large", "a")).unwrap());
    // What would not fit even alone drops nothing.
    now(bus.set("new", "a", &"x".repeat(20_000), None)).unwrap_err();
    assert!(now(bus.contains("large", "a")).unwrap());
    assert_eq!(bus.stats().dropped_from_registry, 0);

    now(bus.set("for good", "a", &"x".repeat(8_000), None)).unwrap();
    assert!(!now(bus.contains("large", "a")).unwrap());
    now(bus.set("new", "a", &"x".repeat(4_000), Some(MONTH))).unwrap_err();
    assert!(now(bus.contains("for good", "a")).unwrap());
    assert_eq!(bus.stats().dropped_from_registry, 1);
}

#[test]
fn what_a_full_bus_drops_and_refuses_is_in_its_health_and_in_the_log() {
    let (lines, _guard) = Lines::collect();
    let bus = MemoryBus::builder().max_registry_bytes(10_000).max_stored_bytes(10_000).build();
    let manager = TaskManager::builder().bus(Arc::new(bus.clone())).build();
    for number in 0..1_000 {
        let _ = now(bus.set(&format!("for good {number}"), "f", "1", None));
        let _ = now(bus.push("too large", &"x".repeat(20_000), None));
    }
    let (stats, health) = (bus.stats(), manager.health());
    assert_eq!(stats.refused_writes as usize, 2_000 - stats.namespaces);
    assert_eq!((health.bus.refused, health.bus.dropped), (stats.refused_writes, 0));
    let refusals = lines.take("a write was refused").len();
    assert!((1..20).contains(&refusals), "{refusals} lines");

    for number in 0..100 {
        deliver(&bus, "alice", &number.to_string());
    }
    assert_eq!(manager.health().bus.dropped, bus.stats().dropped_entries);
    let drops = lines.take("the oldest entries of queues or logs were dropped").len();
    assert!((1..20).contains(&drops), "{drops} lines");
    assert!(manager.health().is_well(), "the bus serves");
}

#[test]
fn a_namespace_that_lives_for_good_after_all_stays() {
    let bus = MemoryBus::builder().max_registry_bytes(100_000).build();
    now(bus.set("kept", "f", "1", Some(SECOND))).unwrap();
    now(bus.set("kept", "f", "1", Some(Duration::MAX))).unwrap();
    for number in 0..1_000 {
        now(bus.set(&number.to_string(), "f", "1", Some(MONTH))).unwrap();
        now(bus.clear(&format!("{}", number / 2))).unwrap();
    }
    for number in 0..1_000 {
        now(bus.set(&format!("again {number}"), "f", "1", Some(MONTH))).unwrap();
    }
    assert!(now(bus.contains("kept", "f")).unwrap());
}

/// A task, which only a manager makes, so that this one comes out of JSON.
fn task(user: &str, status: TaskStatus) -> TaskRecord {
    let ended = (status != TaskStatus::Running).then(SystemTime::now);
    let json = serde_json::json!({
        "id": uuid::Uuid::new_v4(),
        "meta": TaskMeta::new(user, "tool").with_session(format!("of {user}")),
        "status": status,
        "failure_reason": null,
        "error_summary": null,
        "started_at": SystemTime::now(),
        "completed_at": ended,
        "cancel_requested_at": null,
    });
    serde_json::from_value(json).unwrap()
}

fn write(bus: &MemoryBus, user: &str, status: TaskStatus) {
    let owner: Arc<str> = "owner".into();
    let lease = OwnerLease::new(Arc::clone(&owner), SECOND * 15);
    let retention = Retention::new(1_000_000, MONTH);
    let write = TaskWrite::new(task(user, status), 1, owner);
    let written = now(bus.write(&lease, &retention, &[write])).unwrap();
    assert!(matches!(written.tasks[..], [TaskWritten::Written { .. }]));
}

#[test]
fn the_ended_tasks_of_the_user_with_most_of_them_go_first() {
    let bus = MemoryBus::builder().shared(true).max_registry_bytes(1 << 20).build();
    for _ in 0..20 {
        write(&bus, "bob", TaskStatus::Completed);
    }
    for _ in 0..10 {
        write(&bus, "alice", TaskStatus::Running);
    }
    now(bus.set("flag", "f", "1", Some(MONTH))).unwrap();
    for _ in 0..5_000 {
        write(&bus, "alice", TaskStatus::Completed);
    }
    write(&bus, "carol", TaskStatus::Running);
    let tasks = |user: &str| now(bus.tasks(user, MONTH)).unwrap();
    assert_eq!((tasks("bob").len(), tasks("carol").len()), (20, 1));
    let of_alice = tasks("alice");
    assert_eq!(of_alice.iter().filter(|task| !task.record.status.is_terminal()).count(), 10);
    assert!(of_alice.len() < 5_000 && bus.stats().dropped_from_registry > 3_000, "{:?}", bus.stats());
    assert!(now(bus.contains("flag", "f")).unwrap(), "what lives is worth more than what has ended");
}

#[test]
fn channels_of_a_million_sessions_that_are_gone_are_not_kept() {
    let bus = MemoryBus::new();
    let kept = now(bus.subscribe(&["kept"])).unwrap();
    for number in 0..100_000 {
        drop(now(bus.subscribe(&[&format!("session {number}")])).unwrap());
    }
    let stats = bus.stats();
    assert_eq!((stats.channels, stats.subscribers), (1, 1));
    drop(kept);
}
