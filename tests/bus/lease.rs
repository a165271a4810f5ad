//! Leases on a bus that has trouble.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tower_offload::MemoryBus;
use tower_offload::bus::{BusError, Lease, LeaseOptions, Lock, LockExt, Result};

const TTL: Duration = Duration::from_secs(30);

/// What happens to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Trouble {
    #[default]
    None,
    /// It does not reach the bus.
    Refused,
    /// It is done, but the answer does not come back.
    AnswerLost,
    /// It is done, and neither an answer nor an error comes.
    Hangs,
}

/// Locks, and a line to them that can be cut.
#[derive(Debug, Default)]
struct Shaky {
    bus: MemoryBus,
    trouble: Mutex<Trouble>,
    renewals: AtomicU32,
    token: Mutex<String>,
}

impl Shaky {
    fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn have(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn token(&self) -> String {
        self.token.lock().unwrap().clone()
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let trouble = *self.trouble.lock().unwrap();
        let error = || BusError::new("reach the server", format!("{trouble:?}"));
        match trouble {
            Trouble::None => call.await,
            Trouble::Refused => Err(error()),
            Trouble::AnswerLost => call.await.and(Err(error())),
            Trouble::Hangs => {
                call.await?;
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl Lock for Shaky {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        token.clone_into(&mut self.token.lock().unwrap());
        self.call(self.bus.try_acquire(key, token, ttl)).await
    }

    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.call(self.bus.renew(key, token, ttl)).await
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        self.call(self.bus.release(key, token)).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.bus.is_locked(key).await
    }
}

async fn locked(bus: &Arc<Shaky>) -> Lease<Shaky> {
    bus.lock("k", LeaseOptions::new().ttl(TTL)).await.unwrap()
}

async fn is_locked(bus: &Shaky) -> bool {
    bus.is_locked("k").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_three_times_as_often_as_it_would_end() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    sleep(TTL * 10 + TTL / 6).await;
    assert_eq!(bus.renewals.load(Ordering::SeqCst), 30);
    assert!(lease.release().await.unwrap());
    sleep(TTL * 10).await;
    assert_eq!(bus.renewals.load(Ordering::SeqCst), 30, "no longer");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_has_is_lost() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    assert!(lease.lost().now_or_never().is_none());
    bus.bus.release("k", &bus.token()).await.unwrap();
    bus.bus.try_acquire("k", "somebody else", TTL * 10).await.unwrap();

    let began = Instant::now();
    lease.lost().await;
    assert!(began.elapsed() <= TTL / 3 + Duration::from_millis(5));
    assert!(lease.is_lost());
    lease.lost().await;
    let renewals = bus.renewals.load(Ordering::SeqCst);
    sleep(TTL).await;
    assert_eq!(bus.renewals.load(Ordering::SeqCst), renewals, "it is given up");
    assert!(!lease.release().await.unwrap());
    assert!(is_locked(&bus).await, "the other one's lock is untouched");
}

#[tokio::test(start_paused = true)]
async fn a_lease_survives_trouble_that_is_shorter_than_it() {
    for trouble in [Trouble::Refused, Trouble::AnswerLost] {
        let bus = Shaky::new();
        let lease = locked(&bus).await;
        for _ in 0..5 {
            bus.have(trouble);
            sleep(TTL / 2).await;
            bus.have(Trouble::None);
            sleep(TTL / 2).await;
        }
        assert!(!lease.is_lost() && is_locked(&bus).await);
        assert!(lease.release().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_could_not_be_renewed_for_its_time_is_lost() {
    for trouble in [Trouble::Refused, Trouble::Hangs, Trouble::AnswerLost] {
        let bus = Shaky::new();
        let lease = locked(&bus).await;
        let began = Instant::now();
        bus.have(trouble);
        lease.lost().await;
        let after = began.elapsed();
        let slack = Duration::from_millis(5);
        assert!(after + slack >= TTL && after <= TTL + slack, "{trouble:?}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_answer_was_lost_is_found_again() {
    let bus = Shaky::new();
    bus.have(Trouble::AnswerLost);
    let mut waiter = Box::pin(bus.lock("k", LeaseOptions::new().ttl(TTL)));
    assert!((&mut waiter).now_or_never().is_none());
    assert!(is_locked(&bus).await);
    bus.have(Trouble::None);
    let began = Instant::now();
    let lease = waiter.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "without waiting for its own lease to end");
    assert!(lease.release().await.unwrap());
    assert!(!is_locked(&bus).await);
}

#[tokio::test(start_paused = true)]
async fn a_bus_in_trouble_is_tried_again_and_then_named() {
    let bus = Shaky::new();
    bus.have(Trouble::Refused);
    let began = Instant::now();
    let error = bus.lock("k", LeaseOptions::new().max_wait(TTL)).await.unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not reach the server");
    assert!(began.elapsed() >= TTL);

    let waiter = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { bus.lock("k", LeaseOptions::new().max_wait(TTL)).await }
    });
    sleep(TTL / 2).await;
    bus.have(Trouble::None);
    assert!(waiter.await.unwrap().unwrap().release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn waiters_slow_down() {
    // 10 + 20 + 40 + 80 ms, then each 100 ms.
    for (wait, attempts) in [(0, 1), (9, 2), (75, 5), (2_150, 25)] {
        let counting = Arc::new(Counting::default());
        let options = LeaseOptions::new().max_wait(Duration::from_millis(wait));
        counting.lock("k", options).await.unwrap_err();
        assert_eq!(counting.attempts.load(Ordering::SeqCst), attempts, "within {wait} ms");
        sleep(TTL).await;
        assert_eq!(counting.others.load(Ordering::SeqCst), 0, "what was never taken is not given back");
    }
}

/// A lock that nobody ever gets.
#[derive(Default)]
struct Counting {
    attempts: AtomicU32,
    others: AtomicU32,
}

#[async_trait]
impl Lock for Counting {
    async fn try_acquire(&self, _: &str, token: &str, _: Duration) -> Result<bool> {
        assert!(token.len() == 32 && token.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{token}");
        self.attempts.fetch_add(1, Ordering::SeqCst);
        Ok(false)
    }

    async fn renew(&self, _: &str, _: &str, _: Duration) -> Result<bool> {
        self.others.fetch_add(1, Ordering::SeqCst);
        Ok(false)
    }

    async fn release(&self, _: &str, _: &str) -> Result<bool> {
        self.others.fetch_add(1, Ordering::SeqCst);
        Ok(false)
    }

    async fn is_locked(&self, _: &str) -> Result<bool> {
        Ok(true)
    }
}

#[tokio::test(start_paused = true)]
async fn giving_up_in_the_middle_of_an_attempt_leaves_no_lock() {
    let bus = Shaky::new();
    bus.have(Trouble::Hangs);
    let mut waiter = Box::pin(bus.lock("k", LeaseOptions::new().ttl(TTL)));
    assert!((&mut waiter).now_or_never().is_none());
    assert!(is_locked(&bus).await);
    bus.have(Trouble::None);
    drop(waiter);
    sleep(Duration::from_millis(1)).await;
    assert!(!is_locked(&bus).await);
}

#[tokio::test(start_paused = true)]
async fn giving_up_after_a_lost_answer_leaves_no_lock() {
    let bus = Shaky::new();
    bus.have(Trouble::AnswerLost);
    let options = LeaseOptions::new().ttl(TTL).max_wait(Duration::ZERO);
    bus.lock("k", options).await.unwrap_err();
    assert!(is_locked(&bus).await);
    bus.have(Trouble::None);
    sleep(Duration::from_millis(1)).await;
    assert!(!is_locked(&bus).await);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_again() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    bus.have(Trouble::Refused);
    lease.release().await.unwrap_err();
    bus.have(Trouble::None);
    assert!(is_locked(&bus).await);
    sleep(Duration::from_millis(1)).await;
    assert!(!is_locked(&bus).await);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_dropped_is_finished() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    bus.have(Trouble::Refused);
    drop(lease.release());
    assert!(is_locked(&bus).await);
    bus.have(Trouble::None);
    sleep(Duration::from_millis(1)).await;
    assert!(!is_locked(&bus).await);
}

#[tokio::test(start_paused = true)]
async fn a_panic_releases_the_lock() {
    let bus = Shaky::new();
    let task = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move {
            let _lease = locked(&bus).await;
            panic!("on purpose");
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    sleep(Duration::from_millis(1)).await;
    assert!(!is_locked(&bus).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_can_be_dropped_on_any_thread() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    std::thread::spawn(move || drop(lease)).join().unwrap();
    let next = bus.lock("k", LeaseOptions::new().max_wait(TTL / 3)).await.unwrap();
    assert!(next.release().await.unwrap());
}

#[test]
fn a_lease_that_outlives_its_runtime_ends_by_itself() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (bus, first) = (Shaky::new(), runtime().unwrap());
    let lease = first.block_on(locked(&bus));
    drop(first);
    drop(lease);
    assert!(bus.is_locked("k").now_or_never().unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn any_time_to_live_will_do() {
    for ttl in [Duration::ZERO, Duration::from_nanos(1)] {
        let bus = Shaky::new();
        let lease = bus.lock("k", LeaseOptions::new().ttl(ttl)).await.unwrap();
        lease.lost().await;
        assert!(!lease.release().await.unwrap());
    }
    let bus = Shaky::new();
    let options = LeaseOptions::new().ttl(Duration::MAX).max_wait(Duration::MAX);
    let lease = bus.lock("k", options).await.unwrap();
    sleep(TTL * 1_000).await;
    assert!(!lease.is_lost());
    assert!(lease.release().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn debug_does_not_show_the_token() {
    let bus = Shaky::new();
    let lease = locked(&bus).await;
    let text = format!("{lease:?}");
    assert_eq!(text, r#"Lease { key: "k", lost: false, .. }"#);
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Takes a lock on a runtime that ends then.
fn lock_on_a_runtime_that_ends(bus: &Arc<Shaky>) -> Lease<Shaky> {
    paused().block_on(bus.lock("k", LeaseOptions::new().ttl(TTL))).unwrap()
}

#[test]
fn a_lock_is_renewed_where_it_is_looked_at_when_its_runtime_ends() {
    let bus = Shaky::new();
    let lease = lock_on_a_runtime_that_ends(&bus);
    paused().block_on(async {
        assert!(!lease.is_lost());
        sleep(TTL * 10).await;
        assert!(!lease.is_lost());
        assert!(bus.bus.is_locked("k").await.unwrap());
    });
}

#[test]
fn a_lock_that_no_runtime_renews_is_lost_when_its_time_is_over() {
    let bus = Shaky::new();
    let lease = lock_on_a_runtime_that_ends(&bus);
    paused().block_on(async {
        sleep(TTL + TTL / 10).await;
        assert!(lease.is_lost());
        lease.lost().await;
    });
}

#[test]
fn a_lock_is_renewed_on_another_runtime_while_its_own_stands_still() {
    let bus = Shaky::new();
    let stands = paused();
    let lease = stands.block_on(bus.lock("k", LeaseOptions::new().ttl(TTL))).unwrap();
    paused().block_on(async {
        assert!(!lease.is_lost());
        sleep(TTL * 10).await;
        assert!(!lease.is_lost());
    });
    assert!(bus.renewals.load(Ordering::Relaxed) > 10);
}
