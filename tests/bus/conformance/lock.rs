use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tower_offload::bus::{LeaseOptions, LockExt};

use super::{Harness, MOST_OF_TTL, TTL, fifty, unique};

/// Longer than any test, so that it is never the time to live that ends a lock.
const LONG: Duration = Duration::from_secs(600);

pub(crate) async fn a_lock_excludes_until_it_is_released(harness: impl Harness) {
    let (bus, key, other) = (harness.bus(), unique("lock"), unique("other"));
    assert!(!bus.is_locked(&key).await.unwrap());
    assert!(bus.try_acquire(&key, "a", LONG).await.unwrap());
    assert!(bus.is_locked(&key).await.unwrap());
    assert!(!bus.try_acquire(&key, "b", LONG).await.unwrap());
    assert!(!bus.try_acquire(&key, "a", LONG).await.unwrap(), "not even its holder");
    assert!(bus.try_acquire(&other, "b", LONG).await.unwrap(), "another lock");

    assert!(bus.release(&key, "a").await.unwrap());
    assert!(!bus.is_locked(&key).await.unwrap());
    assert!(bus.is_locked(&other).await.unwrap());
    assert!(bus.try_acquire(&key, "b", LONG).await.unwrap());
}

pub(crate) async fn nobody_else_can_release_or_renew(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    bus.try_acquire(&key, "a", LONG).await.unwrap();
    for stranger in ["b", "", "aa", "A"] {
        assert!(!bus.release(&key, stranger).await.unwrap());
        assert!(!bus.renew(&key, stranger, Duration::ZERO).await.unwrap());
        assert!(bus.is_locked(&key).await.unwrap());
    }
    assert!(bus.renew(&key, "a", LONG).await.unwrap());
    assert!(bus.release(&key, "a").await.unwrap());
}

pub(crate) async fn a_released_lock_cannot_be_renewed(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    assert!(!bus.renew(&key, "a", LONG).await.unwrap(), "never taken");
    assert!(!bus.release(&key, "a").await.unwrap());
    bus.try_acquire(&key, "a", LONG).await.unwrap();
    bus.release(&key, "a").await.unwrap();
    assert!(!bus.renew(&key, "a", LONG).await.unwrap());
    assert!(!bus.release(&key, "a").await.unwrap());
    assert!(!bus.is_locked(&key).await.unwrap());
}

pub(crate) async fn one_of_fifty_gets_the_lock(harness: impl Harness) {
    let bus = harness.bus();
    for _ in 0..20 {
        let key = Arc::new(unique("lock"));
        let taken = fifty(|number| {
            let (bus, key) = (bus.clone(), Arc::clone(&key));
            async move { bus.try_acquire(&key, &number.to_string(), LONG).await.unwrap() }
        })
        .await;
        assert_eq!(taken.into_iter().filter(|taken| *taken).count(), 1);
    }
}

pub(crate) async fn a_lease_ends_and_its_token_is_worth_nothing(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    bus.try_acquire(&key, "a", TTL).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert!(!bus.try_acquire(&key, "b", LONG).await.unwrap());
    harness.age(MOST_OF_TTL).await;
    assert!(!bus.is_locked(&key).await.unwrap());
    assert!(!bus.renew(&key, "a", LONG).await.unwrap());
    assert!(bus.try_acquire(&key, "b", LONG).await.unwrap());
    assert!(!bus.renew(&key, "a", Duration::ZERO).await.unwrap());
    assert!(!bus.release(&key, "a").await.unwrap());
    assert!(bus.is_locked(&key).await.unwrap());
}

pub(crate) async fn renewing_counts_from_now(harness: impl Harness) {
    let (bus, longer, shorter) = (harness.bus(), unique("longer"), unique("shorter"));
    bus.try_acquire(&longer, "a", TTL).await.unwrap();
    bus.try_acquire(&shorter, "a", LONG).await.unwrap();
    harness.age(MOST_OF_TTL).await;
    assert!(bus.renew(&longer, "a", TTL).await.unwrap());
    assert!(bus.renew(&shorter, "a", TTL / 10).await.unwrap());
    harness.age(MOST_OF_TTL).await;
    assert!(bus.is_locked(&longer).await.unwrap());
    assert!(!bus.is_locked(&shorter).await.unwrap());
    harness.age(MOST_OF_TTL).await;
    assert!(!bus.is_locked(&longer).await.unwrap());
}

pub(crate) async fn a_lease_excludes_others(harness: impl Harness) {
    let (bus, key) = (harness.bus(), Arc::new(unique("lock")));
    let inside = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (bus, key, inside) = (bus.clone(), Arc::clone(&key), Arc::clone(&inside));
            tokio::spawn(async move {
                let lease = bus.lock(&key, LeaseOptions::new().max_wait(LONG)).await.unwrap();
                assert_eq!(lease.key(), *key);
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "alone until the end");
                assert!(lease.release().await.unwrap());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(!bus.is_locked(&key).await.unwrap());
}

pub(crate) async fn a_waiter_gets_the_lock_when_it_is_released(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    let first = bus.lock(&key, LeaseOptions::new().ttl(LONG)).await.unwrap();
    let mut second = Box::pin(bus.lock(&key, LeaseOptions::new().max_wait(LONG)));
    assert!((&mut second).now_or_never().is_none());
    assert!(first.release().await.unwrap());
    let second = second.await.unwrap();
    assert!(!second.is_lost());
    assert!(second.release().await.unwrap());
}

pub(crate) async fn waiting_for_a_lock_has_an_end(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    assert!(bus.try_acquire(&key, "a", LONG).await.unwrap());
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        let options = LeaseOptions::new().max_wait(wait);
        let began = tokio::time::Instant::now();
        let error = bus.lock(&key, options).await.unwrap_err();
        assert!(began.elapsed() >= wait);
        assert_eq!(error.to_string(), "message bus: could not take a lock");
    }
    assert!(bus.release(&key, "a").await.unwrap(), "the holder still has it");
    let lease = bus.lock(&key, LeaseOptions::new().max_wait(Duration::ZERO)).await.unwrap();
    assert!(lease.release().await.unwrap());
}

pub(crate) async fn a_lease_is_renewed_while_it_is_held(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    // In real time the lease is renewed every two seconds, which is early enough on a busy machine.
    let ttl = Duration::from_secs(6);
    let lease = bus.lock(&key, LeaseOptions::new().ttl(ttl)).await.unwrap();
    for _ in 0..3 {
        harness.pass(ttl / 2).await;
        assert!(bus.is_locked(&key).await.unwrap());
        assert!(!lease.is_lost());
    }
    assert!(lease.release().await.unwrap());
    assert!(!bus.is_locked(&key).await.unwrap());
    // The lease that was released does not renew the next one.
    assert!(bus.try_acquire(&key, "a", TTL).await.unwrap());
    harness.age(TTL * 2).await;
    assert!(!bus.is_locked(&key).await.unwrap());
}

pub(crate) async fn a_dropped_lease_is_released(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    let lease = bus.lock(&key, LeaseOptions::new().ttl(LONG)).await.unwrap();
    drop(lease);
    let next = bus.lock(&key, LeaseOptions::new().max_wait(LONG / 20)).await.unwrap();
    assert!(next.release().await.unwrap());
}

pub(crate) async fn a_dropped_waiter_leaves_no_lock(harness: impl Harness) {
    let (bus, key) = (harness.bus(), unique("lock"));
    let first = bus.lock(&key, LeaseOptions::new().ttl(LONG)).await.unwrap();
    for _ in 0..10 {
        let waiter = bus.lock(&key, LeaseOptions::new().ttl(LONG).max_wait(LONG));
        assert!(waiter.now_or_never().is_none());
    }
    assert!(first.release().await.unwrap());
    let next = bus.lock(&key, LeaseOptions::new().max_wait(LONG / 20)).await.unwrap();
    assert!(next.release().await.unwrap());
}
