use std::sync::Arc;
use std::time::Duration;

use super::{Harness, MOST_OF_TTL, TTL, fifty, unique};

pub(crate) async fn a_field_is_read_back(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    assert_eq!(bus.get(&ns, "a").await.unwrap(), None);
    assert!(!bus.contains(&ns, "a").await.unwrap());
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);

    bus.set(&ns, "a", "1", None).await.unwrap();
    bus.set(&ns, "b", "2", None).await.unwrap();
    bus.set(&ns, "a", "3", None).await.unwrap();

    assert_eq!(bus.get(&ns, "a").await.unwrap().as_deref(), Some("3"));
    assert!(bus.contains(&ns, "b").await.unwrap());
    let mut all = bus.get_all(&ns).await.unwrap();
    all.sort();
    assert_eq!(all, [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]);
}

pub(crate) async fn namespaces_are_apart(harness: impl Harness) {
    let (bus, one, other) = (harness.bus(), unique("one"), unique("other"));
    bus.set(&one, "a", "1", None).await.unwrap();
    assert_eq!(bus.get(&other, "a").await.unwrap(), None);
    assert!(!bus.contains(&other, "a").await.unwrap());
    assert!(!bus.remove(&other, "a").await.unwrap());
    assert!(bus.contains(&one, "a").await.unwrap());
}

pub(crate) async fn remove_says_whether_the_field_was_there(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    bus.set(&ns, "a", "1", None).await.unwrap();
    bus.set(&ns, "b", "2", None).await.unwrap();
    assert!(bus.remove(&ns, "a").await.unwrap());
    assert!(!bus.remove(&ns, "a").await.unwrap());
    assert!(!bus.contains(&ns, "a").await.unwrap());
    assert!(bus.contains(&ns, "b").await.unwrap());
}

pub(crate) async fn clear_removes_all_fields_of_one_namespace(harness: impl Harness) {
    let (bus, ns, other) = (harness.bus(), unique("registry"), unique("other"));
    for field in ["a", "b", "c"] {
        bus.set(&ns, field, "1", None).await.unwrap();
        bus.set(&other, field, "1", None).await.unwrap();
    }
    bus.clear(&ns).await.unwrap();
    bus.clear(&ns).await.unwrap();
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);
    assert_eq!(bus.get_all(&other).await.unwrap().len(), 3);
}

pub(crate) async fn take_reads_and_removes(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    bus.set(&ns, "a", "1", None).await.unwrap();
    bus.set(&ns, "b", "2", None).await.unwrap();
    assert_eq!(bus.take(&ns, "a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(bus.take(&ns, "a").await.unwrap(), None);
    assert_eq!(bus.take(&ns, "b").await.unwrap().as_deref(), Some("2"));
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);
}

pub(crate) async fn set_if_writes_only_over_what_is_expected(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    assert!(!bus.set_if(&ns, "a", "1", "", None).await.unwrap(), "a missing field never matches");
    assert!(!bus.contains(&ns, "a").await.unwrap());

    bus.set(&ns, "a", "1", None).await.unwrap();
    assert!(!bus.set_if(&ns, "a", "2", "other", None).await.unwrap());
    assert_eq!(bus.get(&ns, "a").await.unwrap().as_deref(), Some("1"));
    assert!(bus.set_if(&ns, "a", "2", "1", None).await.unwrap());
    assert_eq!(bus.get(&ns, "a").await.unwrap().as_deref(), Some("2"));
}

pub(crate) async fn set_if_lets_one_of_fifty_through(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), Arc::new(unique("registry")));
    for round in 0..20 {
        let field = format!("f{round}");
        bus.set(&ns, &field, "free", None).await.unwrap();
        let won = fifty(|number| {
            let (bus, ns, field) = (bus.clone(), Arc::clone(&ns), field.clone());
            async move { bus.set_if(&ns, &field, &number.to_string(), "free", None).await.unwrap() }
        })
        .await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = won.iter().position(|won| *won).map(|number| number.to_string());
        assert_eq!(bus.get(&ns, &field).await.unwrap(), winner);
    }
}

pub(crate) async fn set_if_counts_without_losing_any(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), Arc::new(unique("registry")));
    bus.set(&ns, "count", "0", None).await.unwrap();
    fifty(|_| {
        let (bus, ns) = (bus.clone(), Arc::clone(&ns));
        async move {
            loop {
                let old = bus.get(&ns, "count").await.unwrap().unwrap();
                let new = (old.parse::<u32>().unwrap() + 1).to_string();
                if bus.set_if(&ns, "count", &new, &old, None).await.unwrap() {
                    break;
                }
            }
        }
    })
    .await;
    assert_eq!(bus.get(&ns, "count").await.unwrap().as_deref(), Some("50"));
}

pub(crate) async fn take_gives_a_field_to_one_of_fifty(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), Arc::new(unique("registry")));
    for round in 0..20 {
        let value = round.to_string();
        bus.set(&ns, "a", &value, None).await.unwrap();
        let taken = fifty(|_| {
            let (bus, ns) = (bus.clone(), Arc::clone(&ns));
            async move { bus.take(&ns, "a").await.unwrap() }
        })
        .await;
        assert_eq!(taken.into_iter().flatten().collect::<Vec<_>>(), [value]);
    }
}

pub(crate) async fn a_namespace_expires_as_a_whole(harness: impl Harness) {
    let (bus, ns, other) = (harness.bus(), unique("registry"), unique("other"));
    bus.set(&ns, "without", "1", None).await.unwrap();
    bus.set(&ns, "with", "1", Some(TTL)).await.unwrap();
    bus.set(&other, "without", "1", None).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.get_all(&ns).await.unwrap().len(), 2);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);
    assert!(!bus.contains(&ns, "without").await.unwrap());
    assert_eq!(bus.get(&ns, "with").await.unwrap(), None);
    assert_eq!(bus.take(&ns, "with").await.unwrap(), None);
    assert!(bus.contains(&other, "without").await.unwrap());
}

pub(crate) async fn a_ttl_slides_with_each_set_that_has_one(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    bus.set(&ns, "a", "1", Some(TTL)).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    bus.set(&ns, "b", "1", Some(TTL)).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.get_all(&ns).await.unwrap().len(), 2, "the second set moved the end of both");
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);
}

pub(crate) async fn a_set_without_ttl_leaves_it_as_it_was(harness: impl Harness) {
    let (bus, ns) = (harness.bus(), unique("registry"));
    bus.set(&ns, "a", "1", Some(TTL)).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    bus.set(&ns, "b", "1", None).await.unwrap();
    assert_eq!(bus.get_all(&ns).await.unwrap().len(), 2);
    harness.age(MOST_OF_TTL).await;
    assert_eq!(bus.get_all(&ns).await.unwrap(), []);
}

pub(crate) async fn a_namespace_that_was_emptied_has_no_ttl_left(harness: impl Harness) {
    let bus = harness.bus();
    let (removed, taken, cleared) = (unique("removed"), unique("taken"), unique("cleared"));
    for ns in [&removed, &taken, &cleared] {
        bus.set(ns, "a", "1", Some(TTL)).await.unwrap();
    }
    bus.remove(&removed, "a").await.unwrap();
    bus.take(&taken, "a").await.unwrap();
    bus.clear(&cleared).await.unwrap();
    for ns in [&removed, &taken, &cleared] {
        bus.set(ns, "a", "2", None).await.unwrap();
    }
    harness.age(TTL * 2).await;
    for ns in [&removed, &taken, &cleared] {
        assert_eq!(bus.get(ns, "a").await.unwrap().as_deref(), Some("2"), "{ns}");
    }
}

pub(crate) async fn set_if_sets_the_ttl_only_when_it_writes(harness: impl Harness) {
    let (bus, missed, hit) = (harness.bus(), unique("missed"), unique("hit"));
    for ns in [&missed, &hit] {
        bus.set(ns, "a", "1", None).await.unwrap();
    }
    assert!(!bus.set_if(&missed, "a", "2", "other", Some(TTL)).await.unwrap());
    assert!(bus.set_if(&hit, "a", "2", "1", Some(TTL)).await.unwrap());
    harness.age(TTL * 2).await;
    assert!(bus.contains(&missed, "a").await.unwrap());
    assert!(!bus.contains(&hit, "a").await.unwrap());
}

pub(crate) async fn a_ttl_of_zero_ends_at_once_and_a_huge_one_never(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("ttl"));
    bus.set(&key, "a", "1", Some(Duration::MAX)).await.unwrap();
    harness.age(TTL).await;
    assert!(bus.contains(&key, "a").await.unwrap());
    bus.set(&key, "a", "1", Some(Duration::ZERO)).await.unwrap();
    assert!(!bus.contains(&key, "a").await.unwrap());

    let key = unique("ttl");
    bus.push(&key, "{}", Some(Duration::MAX)).await.unwrap();
    harness.age(TTL).await;
    assert_eq!(bus.len(&key).await.unwrap(), 1);
    bus.push(&key, "{}", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(bus.len(&key).await.unwrap(), 0);

    let key = unique("ttl");
    bus.append(&key, "{}", Some(Duration::MAX), None).await.unwrap();
    harness.age(TTL).await;
    assert_eq!(bus.read(&key, None, 9).await.unwrap().len(), 1);
    bus.append(&key, "{}", Some(Duration::ZERO), None).await.unwrap();
    assert_eq!(bus.read(&key, None, 9).await.unwrap(), []);

    let key = unique("ttl");
    assert!(bus.try_acquire(&key, "token", Duration::MAX).await.unwrap());
    harness.age(TTL).await;
    assert!(bus.is_locked(&key).await.unwrap());
    assert!(bus.renew(&key, "token", Duration::ZERO).await.unwrap());
    assert!(!bus.is_locked(&key).await.unwrap());
    assert!(bus.try_acquire(&key, "token", Duration::ZERO).await.unwrap());
    assert!(!bus.is_locked(&key).await.unwrap());
}
