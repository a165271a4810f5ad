//! A bus that fails when it is told to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tower_offload::MemoryBus;
use tower_offload::bus::{
    BusError, Delivery, Entry, EntryId, Lock, Log, MessageBus, PubSub, Queue, Registry, Result, Subscription,
};

/// What goes wrong with one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is not made.
    Lost,
    /// It is made, but the answer is an error.
    AnswerLost,
    /// There is no answer, ever.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct FlakyBus {
    pub(crate) inner: MemoryBus,
    shared: bool,
    faults: Mutex<VecDeque<Fault>>,
    attempts: Mutex<Vec<Instant>>,
    keys: Mutex<Vec<String>>,
    registry_down: AtomicBool,
}

impl FlakyBus {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Self::build(faults, false)
    }

    /// One that other processes are on.
    pub(crate) fn shared() -> Arc<Self> {
        Self::build([], true)
    }

    fn build(faults: impl IntoIterator<Item = Fault>, shared: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryBus::new(),
            shared,
            faults: Mutex::new(faults.into_iter().collect()),
            attempts: Mutex::default(),
            keys: Mutex::default(),
            registry_down: AtomicBool::new(false),
        })
    }

    pub(crate) fn break_registry(&self) {
        self.registry_down.store(true, Ordering::Relaxed);
    }

    /// The dedupe keys of all attempts to deliver.
    pub(crate) fn dedupe_keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }

    /// The times between the attempts to deliver.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.attempts.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn down(operation: &'static str) -> BusError {
    BusError::new(operation, "connection refused")
}

#[async_trait]
impl MessageBus for FlakyBus {
    fn is_shared(&self) -> bool {
        self.shared
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        self.attempts.lock().unwrap().push(Instant::now());
        self.keys.lock().unwrap().push(delivery.dedupe_key.to_string());
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => self.inner.deliver(delivery).await,
            Some(Fault::Lost) => Err(down("deliver")),
            Some(Fault::AnswerLost) => {
                self.inner.deliver(delivery).await?;
                Err(down("read the answer"))
            }
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Registry for FlakyBus {
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        self.inner.set(namespace, field, value, ttl).await
    }
    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.inner.get(namespace, field).await
    }
    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        self.inner.get_all(namespace).await
    }
    async fn contains(&self, namespace: &str, field: &str) -> Result<bool> {
        if self.registry_down.load(Ordering::Relaxed) {
            return Err(down("look up a task"));
        }
        self.inner.contains(namespace, field).await
    }
    async fn remove(&self, namespace: &str, field: &str) -> Result<bool> {
        self.inner.remove(namespace, field).await
    }
    async fn clear(&self, namespace: &str) -> Result<()> {
        self.inner.clear(namespace).await
    }
    async fn set_if(
        &self,
        namespace: &str,
        field: &str,
        value: &str,
        expected: &str,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.inner.set_if(namespace, field, value, expected, ttl).await
    }
    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.inner.take(namespace, field).await
    }
}

#[async_trait]
impl Queue for FlakyBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        self.inner.push(key, payload, ttl).await
    }
    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.inner.drain(key, max).await
    }
    async fn len(&self, key: &str) -> Result<usize> {
        self.inner.len(key).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }
}

#[async_trait]
impl PubSub for FlakyBus {
    async fn publish(&self, channel: &str, payload: &str) -> Result<()> {
        self.inner.publish(channel, payload).await
    }
    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        self.inner.subscribe(channels).await
    }
}

#[async_trait]
impl Lock for FlakyBus {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.inner.try_acquire(key, token, ttl).await
    }
    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.inner.renew(key, token, ttl).await
    }
    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        self.inner.release(key, token).await
    }
    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.inner.is_locked(key).await
    }
}

#[async_trait]
impl Log for FlakyBus {
    async fn append(
        &self,
        key: &str,
        payload: &str,
        ttl: Option<Duration>,
        max_len: Option<usize>,
    ) -> Result<EntryId> {
        self.inner.append(key, payload, ttl, max_len).await
    }
    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>> {
        self.inner.read(key, after, max).await
    }
    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()> {
        self.inner.trim(key, before).await
    }
}
