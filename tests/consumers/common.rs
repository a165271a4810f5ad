//! What these tests share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};
use tower_offload::TaskMeta;
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{Delivery, MessageBus, SharedBus, Wakeups, keys};

use crate::flaky_bus::FlakyBus;

pub(crate) const MILLIS: Duration = Duration::from_millis(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn flaky() -> (Arc<FlakyBus>, SharedBus) {
    let bus = Arc::new(FlakyBus::default());
    (Arc::clone(&bus), bus)
}

pub(crate) fn wake(session: &str) -> Wakeup {
    Wakeup::wake("alice", session, "agent")
}

/// A wakeup that carries something.
pub(crate) fn message(session: &str, number: u32) -> Wakeup {
    let mut wakeup = wake(session);
    wakeup.kind = "message".to_owned();
    wakeup.input = Some(json!({ "number": number }));
    wakeup
}

/// What tells one wakeup from another.
pub(crate) fn name(wakeup: &Wakeup) -> String {
    match &wakeup.input {
        Some(input) => format!("{} {} {}", wakeup.session_id, wakeup.kind, input["number"]),
        None => format!("{} {}", wakeup.session_id, wakeup.kind),
    }
}

/// Puts a wakeup into the queue and signals it, as peers do.
pub(crate) async fn push(bus: &dyn MessageBus, wakeup: &Wakeup) {
    bus.push(keys::WAKEUPS, &serde_json::to_string(wakeup).unwrap(), None).await.unwrap();
    bus.publish(keys::WAKEUP_SIGNAL, "{}").await.unwrap();
}

/// What is in the queue, which is empty then.
pub(crate) async fn queued(bus: &dyn MessageBus) -> Vec<String> {
    let entries = bus.drain(keys::WAKEUPS, usize::MAX).await.unwrap();
    entries.iter().map(|entry| name(&serde_json::from_str(&entry.payload).unwrap())).collect()
}

pub(crate) async fn take_lock(bus: &dyn MessageBus, session: &str) {
    assert!(bus.try_acquire(&keys::session_lock(session), "token", HOUR * 24).await.unwrap());
}

pub(crate) async fn give_lock(bus: &dyn MessageBus, session: &str) {
    assert!(bus.release(&keys::session_lock(session), "token").await.unwrap());
}

pub(crate) async fn is_consumed(bus: &dyn MessageBus, session: &str) -> bool {
    bus.contains(&keys::inbox_consumer(session), keys::CONSUMER_RUNNING).await.unwrap()
}

pub(crate) fn delivery(session: &str, key: &str) -> Delivery {
    let meta = TaskMeta::new("alice", "tool").with_session(session).with_agent("agent");
    Delivery::new(key, &meta, format!(r#"{{"result": "{key}"}}"#))
}

/// The next wakeup, and how long it took to come.
pub(crate) async fn next(wakeups: &mut Wakeups) -> (Wakeup, Duration) {
    let asked = Instant::now();
    let wakeup = timeout(HOUR, wakeups.recv()).await.expect("it comes within an hour").unwrap();
    (wakeup, asked.elapsed())
}

pub(crate) async fn next_name(wakeups: &mut Wakeups) -> String {
    name(&next(wakeups).await.0)
}

/// That nothing comes for so long.
pub(crate) async fn nothing_for(time: Duration, wakeups: &mut Wakeups) {
    if let Ok(wakeup) = timeout(time, wakeups.recv()).await {
        panic!("nothing was expected and not {wakeup:?}");
    }
}

/// Lets time pass until the condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(MILLIS * 10).await;
        }
    };
    timeout(HOUR, wait).await.expect("it holds within an hour");
}
