//! A real bus behind a connection that can be cut.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tower_offload::bus::{
    BusError, Delivery, Entry, EntryId, Lock, Log, MemoryBus, MessageBus, PubSub, Queue, Registry, Result,
    Subscription,
};

/// A [`MemoryBus`] that other processes may share, and that is away when it is told so.
#[derive(Debug)]
pub(crate) struct FlakyBus {
    bus: MemoryBus,
    failures: Mutex<usize>,
    forwarders: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Default for FlakyBus {
    fn default() -> Self {
        let bus = MemoryBus::builder().shared(true).build();
        Self { bus, failures: Mutex::default(), forwarders: Mutex::default() }
    }
}

#[allow(dead_code, reason = "each test crate uses some of it")]
impl FlakyBus {
    /// The next so many operations fail, of whatever kind.
    pub(crate) fn fail_next(&self, operations: usize) {
        *self.failures.lock().unwrap() = operations;
    }

    pub(crate) fn failures_left(&self) -> usize {
        *self.failures.lock().unwrap()
    }

    /// Ends all subscriptions, as a connection does that is lost.
    pub(crate) fn cut_subscriptions(&self) {
        self.forwarders.lock().unwrap().drain(..).for_each(|forwarder| forwarder.abort());
    }

    /// How many subscriptions are live.
    pub(crate) fn subscriptions(&self) -> usize {
        self.forwarders.lock().unwrap().iter().filter(|forwarder| !forwarder.is_finished()).count()
    }

    /// The bus itself, which is always there.
    pub(crate) fn inner(&self) -> &MemoryBus {
        &self.bus
    }

    fn connected(&self, operation: &'static str) -> Result<()> {
        let mut failures = self.failures.lock().unwrap();
        match failures.checked_sub(1) {
            Some(left) => {
                *failures = left;
                Err(BusError::new(operation, "connection refused"))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl PubSub for FlakyBus {
    async fn publish(&self, channel: &str, payload: &str) -> Result<()> {
        self.connected("publish")?;
        self.bus.publish(channel, payload).await
    }

    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        self.connected("subscribe")?;
        let mut inner = self.bus.subscribe(channels).await?;
        let (sender, subscription) = Subscription::channel(100);
        let forwarder = tokio::spawn(async move {
            while let Some(event) = inner.recv().await {
                sender.send(event);
            }
        });
        self.forwarders.lock().unwrap().push(forwarder.abort_handle());
        Ok(subscription)
    }
}

#[async_trait]
impl MessageBus for FlakyBus {
    fn is_shared(&self) -> bool {
        self.bus.is_shared()
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        self.connected("deliver")?;
        self.bus.deliver(delivery).await
    }
}

#[async_trait]
impl Registry for FlakyBus {
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        self.connected("set")?;
        self.bus.set(namespace, field, value, ttl).await
    }

    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.connected("get")?;
        self.bus.get(namespace, field).await
    }

    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        self.connected("get all")?;
        self.bus.get_all(namespace).await
    }

    async fn contains(&self, namespace: &str, field: &str) -> Result<bool> {
        self.connected("contains")?;
        self.bus.contains(namespace, field).await
    }

    async fn remove(&self, namespace: &str, field: &str) -> Result<bool> {
        self.connected("remove")?;
        self.bus.remove(namespace, field).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.connected("clear")?;
        self.bus.clear(namespace).await
    }

    async fn set_if(
        &self,
        namespace: &str,
        field: &str,
        value: &str,
        expected: &str,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.connected("set if")?;
        self.bus.set_if(namespace, field, value, expected, ttl).await
    }

    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.connected("take")?;
        self.bus.take(namespace, field).await
    }
}

#[async_trait]
impl Queue for FlakyBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        self.connected("push")?;
        self.bus.push(key, payload, ttl).await
    }

    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.connected("drain")?;
        self.bus.drain(key, max).await
    }

    async fn len(&self, key: &str) -> Result<usize> {
        self.connected("len")?;
        self.bus.len(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.connected("delete")?;
        self.bus.delete(key).await
    }
}

#[async_trait]
impl Lock for FlakyBus {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.connected("try acquire")?;
        self.bus.try_acquire(key, token, ttl).await
    }

    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.connected("renew")?;
        self.bus.renew(key, token, ttl).await
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        self.connected("release")?;
        self.bus.release(key, token).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.connected("is locked")?;
        self.bus.is_locked(key).await
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
        self.connected("append")?;
        self.bus.append(key, payload, ttl, max_len).await
    }

    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>> {
        self.connected("read")?;
        self.bus.read(key, after, max).await
    }

    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()> {
        self.connected("trim")?;
        self.bus.trim(key, before).await
    }
}
