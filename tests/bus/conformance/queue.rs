use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Harness, MOST_OF_TTL, TTL, payloads, unique};

pub(crate) async fn entries_come_in_order_and_once(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("queue"));
    let mut ids = Vec::new();
    for payload in ["1", "2", "3"] {
        ids.push(bus.push(&key, payload, None).await.unwrap());
    }
    assert_eq!(bus.len(&key).await.unwrap(), 3);
    let entries = bus.drain(&key, 100).await.unwrap();
    assert_eq!(payloads(&entries), ["1", "2", "3"]);
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids);
    assert_eq!(bus.len(&key).await.unwrap(), 0);
    assert_eq!(bus.drain(&key, 100).await.unwrap(), []);
}

pub(crate) async fn drain_takes_no_more_than_asked(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("queue"));
    for number in 0..10 {
        bus.push(&key, &number.to_string(), None).await.unwrap();
    }
    assert_eq!(bus.drain(&key, 0).await.unwrap(), []);
    assert_eq!(payloads(&bus.drain(&key, 4).await.unwrap()), ["0", "1", "2", "3"]);
    assert_eq!(bus.len(&key).await.unwrap(), 6);
    assert_eq!(payloads(&bus.drain(&key, usize::MAX).await.unwrap()), ["4", "5", "6", "7", "8", "9"]);
}

pub(crate) async fn what_is_peeked_stays_until_it_is_removed(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("queue"));
    assert_eq!(bus.peek(&key, 9).await.unwrap(), []);
    for number in 0..5 {
        bus.push(&key, &number.to_string(), None).await.unwrap();
    }
    assert_eq!(bus.peek(&key, 0).await.unwrap(), []);
    let first = bus.peek(&key, 2).await.unwrap();
    assert_eq!(payloads(&first), ["0", "1"]);
    assert_eq!(bus.peek(&key, 2).await.unwrap(), first);
    for _ in 0..2 {
        bus.remove_through(&key, first[1].id).await.unwrap();
        assert_eq!(payloads(&bus.peek(&key, 9).await.unwrap()), ["2", "3", "4"]);
    }
    let last = bus.push(&key, "5", None).await.unwrap();
    bus.remove_through(&key, first[0].id).await.unwrap();
    assert_eq!(bus.len(&key).await.unwrap(), 4);
    bus.remove_through(&key, last).await.unwrap();
    assert_eq!((bus.len(&key).await.unwrap(), bus.peek(&key, 9).await.unwrap()), (0, vec![]));
    // What comes after that is not taken for removed.
    assert!(bus.push(&key, "6", None).await.unwrap() > last);
    bus.remove_through(&key, last).await.unwrap();
    assert_eq!(payloads(&bus.drain(&key, 9).await.unwrap()), ["6"]);
}

pub(crate) async fn what_is_not_there_is_empty(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("queue"));
    assert_eq!(bus.len(&key).await.unwrap(), 0);
    assert_eq!(bus.drain(&key, 1).await.unwrap(), []);
    bus.delete(&key).await.unwrap();
}

pub(crate) async fn delete_removes_all(harness: impl Harness) {
    let (bus, key, other) = (harness.bus(), unique("queue"), unique("other"));
    for _ in 0..3 {
        bus.push(&key, "{}", None).await.unwrap();
        bus.push(&other, "{}", None).await.unwrap();
    }
    bus.delete(&key).await.unwrap();
    assert_eq!(bus.len(&key).await.unwrap(), 0);
    assert_eq!(bus.drain(&key, 9).await.unwrap(), []);
    assert_eq!(bus.len(&other).await.unwrap(), 3);
}

pub(crate) async fn queues_are_apart(harness: impl Harness) {
    let (bus, one, other) = (harness.bus(), unique("one"), unique("other"));
    bus.push(&one, "1", None).await.unwrap();
    bus.push(&other, "2", None).await.unwrap();
    assert_eq!(payloads(&bus.drain(&other, 9).await.unwrap()), ["2"]);
    assert_eq!(payloads(&bus.drain(&one, 9).await.unwrap()), ["1"]);
}

pub(crate) async fn ids_grow(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("queue"));
    let mut last = bus.push(&key, "{}", None).await.unwrap();
    assert_eq!(last.to_string(), format!("{}-{}", last.millis, last.sequence));
    for round in 0..300 {
        // Within a millisecond, and over a queue that was drained.
        if round % 100 == 0 {
            bus.drain(&key, usize::MAX).await.unwrap();
        }
        let id = bus.push(&key, "{}", None).await.unwrap();
        assert!(id > last, "{id} after {last}");
        last = id;
    }
}

pub(crate) async fn competing_drainers_get_each_entry_once_and_in_order(harness: impl Harness) {
    const PUSHERS: usize = 4;
    const EACH: usize = 250;
    const ALL: usize = PUSHERS * EACH;
    let (bus, key) = (harness.bus(), Arc::new(unique("queue")));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let (bus, key) = (bus.clone(), Arc::clone(&key));
            tokio::spawn(async move {
                for number in 0..EACH {
                    bus.push(&key, &(pusher * EACH + number).to_string(), None).await.unwrap();
                }
            })
        })
        .collect();
    let drained = Arc::new(AtomicUsize::new(0));
    let drainers: Vec<_> = (0..8)
        .map(|_| {
            let (bus, key, drained) = (bus.clone(), Arc::clone(&key), Arc::clone(&drained));
            tokio::spawn(async move {
                let mut mine = Vec::new();
                while drained.load(Ordering::SeqCst) < ALL {
                    let entries = bus.drain(&key, 7).await.unwrap();
                    assert!(entries.len() <= 7);
                    drained.fetch_add(entries.len(), Ordering::SeqCst);
                    mine.extend(entries);
                    tokio::task::yield_now().await;
                }
                mine
            })
        })
        .collect();
    for pusher in pushers {
        pusher.await.unwrap();
    }
    let mut all = Vec::new();
    for drainer in drainers {
        let mine = drainer.await.unwrap();
        assert!(mine.is_sorted_by(|one, next| one.id < next.id), "a drainer only goes forward");
        all.extend(mine);
    }
    assert_eq!(all.len(), ALL, "none twice");
    all.sort_by_key(|entry| entry.id);
    let numbers: Vec<usize> = all.iter().map(|entry| entry.payload.parse().unwrap()).collect();
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..ALL).collect(), "none lost");
    for pusher in 0..PUSHERS {
        let of_one = numbers.iter().filter(|number| **number / EACH == pusher);
        assert!(of_one.is_sorted(), "in the order in which they were pushed");
    }
}

pub(crate) async fn a_queue_expires_as_a_whole(harness: impl Harness) {
    let (bus, key, other) = (harness.bus(), unique("queue"), unique("other"));
    bus.push(&key, "1", None).await.unwrap();
    bus.push(&key, "2", Some(TTL)).await.unwrap();
    bus.push(&other, "1", None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.len(&key).await.unwrap(), 2);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.len(&key).await.unwrap(), 0);
    assert_eq!(bus.drain(&key, 9).await.unwrap(), []);
    assert_eq!(bus.len(&other).await.unwrap(), 1);
}

pub(crate) async fn a_queues_ttl_slides_with_each_push_that_has_one(harness: impl Harness) {
    let (bus, slides, stays) = (harness.bus(), unique("slides"), unique("stays"));
    bus.push(&slides, "1", Some(TTL)).await.unwrap();
    bus.push(&stays, "1", Some(TTL)).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    bus.push(&slides, "2", Some(TTL)).await.unwrap();
    bus.push(&stays, "2", None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.len(&slides).await.unwrap(), 2);
    assert_eq!(bus.len(&stays).await.unwrap(), 0);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.len(&slides).await.unwrap(), 0);
}
