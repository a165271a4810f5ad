//! A real bus behind a connection that can be cut.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;
use tower_offload::bus::{
    BusError, Delivery, Directory, DirectoryWritten, Entry, EntryId, Lock, Log, MemoryBus, MessageBus,
    OwnerLease, PubSub, Queue, Registry, Result, Retention, StoredTask, Subscription, TaskCheck, TaskWrite,
};
use tower_offload::{TaskId, TaskRecord};

/// What goes wrong with one delivery.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each test crate uses some of it")]
pub(crate) enum Fault {
    /// It is not made.
    Lost,
    /// It is made, but the answer is an error.
    AnswerLost,
    /// There is no answer, ever.
    Hangs,
}

/// A [`MemoryBus`] that is away when it is told so. The default is one that other processes are on.
#[derive(Debug)]
pub(crate) struct FlakyBus {
    pub(crate) inner: MemoryBus,
    shared: bool,
    successes: Mutex<usize>,
    failures: Mutex<usize>,
    lost_answers: Mutex<usize>,
    calls: Mutex<HashMap<&'static str, usize>>,
    panics: Mutex<Vec<&'static str>>,
    slow: Mutex<Option<(&'static str, Duration)>>,
    always_slow: Mutex<Option<(&'static str, Duration)>>,
    faults: Mutex<VecDeque<Fault>>,
    attempts: Mutex<Vec<(Instant, String)>>,
    forwarders: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Default for FlakyBus {
    fn default() -> Self {
        Self {
            inner: MemoryBus::new(),
            shared: true,
            successes: Mutex::default(),
            failures: Mutex::default(),
            lost_answers: Mutex::default(),
            calls: Mutex::default(),
            panics: Mutex::default(),
            slow: Mutex::default(),
            always_slow: Mutex::default(),
            faults: Mutex::default(),
            attempts: Mutex::default(),
            forwarders: Mutex::default(),
        }
    }
}

#[allow(dead_code, reason = "each test crate uses some of it")]
impl FlakyBus {
    /// One that no other process is on, and whose first deliveries go wrong.
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        let faults = Mutex::new(faults.into_iter().collect());
        Arc::new(Self { shared: false, faults, ..Self::default() })
    }

    /// One process's connection to a bus that several are on.
    pub(crate) fn on(inner: MemoryBus) -> Arc<Self> {
        Arc::new(Self { inner, ..Self::default() })
    }

    /// Nothing gets through until [`reconnect`](Self::reconnect).
    pub(crate) fn disconnect(&self) {
        self.fail_next(usize::MAX);
        self.cut_subscriptions();
    }

    pub(crate) fn reconnect(&self) {
        self.fail_next(0);
    }

    /// The dedupe keys of all attempts to deliver.
    pub(crate) fn dedupe_keys(&self) -> Vec<String> {
        self.attempts.lock().unwrap().iter().map(|(_, key)| key.clone()).collect()
    }

    /// The times between the attempts to deliver.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.attempts.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }

    /// The next so many operations fail, of whatever kind.
    pub(crate) fn fail_next(&self, operations: usize) {
        *self.failures.lock().unwrap() = operations;
    }

    /// So many operations succeed, and then so many fail.
    pub(crate) fn fail_after(&self, successes: usize, operations: usize) {
        *self.successes.lock().unwrap() = successes;
        self.fail_next(operations);
    }

    /// The next so many writes to the directory are made, and their answers are errors.
    pub(crate) fn lose_answers(&self, writes: usize) {
        *self.lost_answers.lock().unwrap() = writes;
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

    /// How many operations of one kind were asked for, by the phrase that names it in errors.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    /// The next operation of this kind panics.
    pub(crate) fn panic_next(&self, operation: &'static str) {
        self.panics.lock().unwrap().push(operation);
    }

    /// Whether all panics that were asked for have happened.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panics.lock().unwrap().is_empty()
    }

    /// The next operation of this kind has no answer, ever.
    pub(crate) fn hang_next(&self, operation: &'static str) {
        self.slow_next(operation, Duration::MAX);
    }

    /// The next operation of this kind takes so long.
    pub(crate) fn slow_next(&self, operation: &'static str, time: Duration) {
        *self.slow.lock().unwrap() = Some((operation, time));
    }

    /// Every operation of this kind takes so long from now on.
    pub(crate) fn slow_always(&self, operation: &'static str, time: Duration) {
        *self.always_slow.lock().unwrap() = Some((operation, time));
    }

    async fn connected(&self, operation: &'static str) -> Result<()> {
        *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        let panics = {
            let mut panics = self.panics.lock().unwrap();
            let place = panics.iter().position(|panics| *panics == operation);
            place.map(|place| panics.swap_remove(place))
        };
        assert!(panics.is_none(), "a bus that panics");
        let slow = self.slow.lock().unwrap().take_if(|(slow, _)| *slow == operation);
        let always = self.always_slow.lock().unwrap().filter(|(slow, _)| *slow == operation);
        let slow = slow.or(always);
        if let Some((_, time)) = slow {
            tokio::time::sleep(time).await;
        }
        let succeeds = {
            let mut successes = self.successes.lock().unwrap();
            let left = successes.checked_sub(1);
            *successes = left.unwrap_or_default();
            left.is_some()
        };
        if succeeds {
            return Ok(());
        }
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
        self.connected("publish").await?;
        self.inner.publish(channel, payload).await
    }

    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        self.connected("subscribe").await?;
        let mut inner = self.inner.subscribe(channels).await?;
        let (sender, subscription) = Subscription::channel(100);
        let forwarder = tokio::spawn(async move {
            while let Some(event) = inner.recv().await {
                if !sender.send(event) {
                    break;
                }
            }
        });
        self.forwarders.lock().unwrap().push(forwarder.abort_handle());
        Ok(subscription)
    }
}

#[async_trait]
impl MessageBus for FlakyBus {
    fn is_shared(&self) -> bool {
        self.shared
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        self.connected("deliver").await?;
        self.attempts.lock().unwrap().push((Instant::now(), delivery.dedupe_key.to_string()));
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => self.inner.deliver(delivery).await,
            Some(Fault::Lost) => Err(BusError::new("deliver", "connection refused")),
            Some(Fault::AnswerLost) => {
                self.inner.deliver(delivery).await?;
                Err(BusError::new("read the answer", "connection reset"))
            }
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }

    async fn finish_inbox(&self, session_id: &str) -> Result<bool> {
        self.connected("finish an inbox").await?;
        self.inner.finish_inbox(session_id).await
    }
}

#[async_trait]
impl Registry for FlakyBus {
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        self.connected("set").await?;
        self.inner.set(namespace, field, value, ttl).await
    }

    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.connected("get").await?;
        self.inner.get(namespace, field).await
    }

    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        self.connected("get all").await?;
        self.inner.get_all(namespace).await
    }

    async fn contains(&self, namespace: &str, field: &str) -> Result<bool> {
        self.connected("look up a field").await?;
        self.inner.contains(namespace, field).await
    }

    async fn remove(&self, namespace: &str, field: &str) -> Result<bool> {
        self.connected("remove").await?;
        self.inner.remove(namespace, field).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.connected("clear").await?;
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
        self.connected("set if").await?;
        self.inner.set_if(namespace, field, value, expected, ttl).await
    }

    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.connected("take").await?;
        self.inner.take(namespace, field).await
    }
}

#[async_trait]
impl Queue for FlakyBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        self.connected("push").await?;
        self.inner.push(key, payload, ttl).await
    }

    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.connected("drain").await?;
        self.inner.drain(key, max).await
    }

    async fn peek(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.connected("peek").await?;
        self.inner.peek(key, max).await
    }

    async fn remove_through(&self, key: &str, id: EntryId) -> Result<()> {
        self.connected("remove through").await?;
        self.inner.remove_through(key, id).await
    }

    async fn len(&self, key: &str) -> Result<usize> {
        self.connected("len").await?;
        self.inner.len(key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.connected("delete").await?;
        self.inner.delete(key).await
    }
}

#[async_trait]
impl Lock for FlakyBus {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.connected("try acquire").await?;
        self.inner.try_acquire(key, token, ttl).await
    }

    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.connected("renew").await?;
        self.inner.renew(key, token, ttl).await
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        self.connected("release").await?;
        self.inner.release(key, token).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.connected("is locked").await?;
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
        self.connected("append").await?;
        self.inner.append(key, payload, ttl, max_len).await
    }

    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>> {
        self.connected("read").await?;
        self.inner.read(key, after, max).await
    }

    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()> {
        self.connected("trim").await?;
        self.inner.trim(key, before).await
    }
}

#[async_trait]
impl Directory for FlakyBus {
    async fn write(
        &self,
        lease: &OwnerLease,
        retention: &Retention,
        writes: &[TaskWrite],
    ) -> Result<DirectoryWritten> {
        self.connected("write").await?;
        let written = self.inner.write(lease, retention, writes).await;
        let mut lost = self.lost_answers.lock().unwrap();
        match lost.checked_sub(1) {
            Some(left) => {
                *lost = left;
                Err(BusError::new("read the answer", "connection reset"))
            }
            None => written,
        }
    }

    async fn tasks(&self, user_id: &str, lease: Duration) -> Result<Vec<StoredTask>> {
        self.connected("tasks").await?;
        let tasks = self.inner.tasks(user_id, lease).await;
        self.connected("answer with tasks").await?;
        tasks
    }

    async fn task(&self, user_id: &str, id: TaskId, lease: Duration) -> Result<Option<StoredTask>> {
        self.connected("task").await?;
        self.inner.task(user_id, id, lease).await
    }

    async fn request_stop(&self, user_id: &str, ids: &[TaskId], at: SystemTime) -> Result<()> {
        self.connected("request stop").await?;
        self.inner.request_stop(user_id, ids, at).await
    }

    async fn check(&self, owner: &str, tasks: &[Arc<TaskRecord>]) -> Result<Vec<TaskCheck>> {
        self.connected("check").await?;
        self.inner.check(owner, tasks).await
    }

    async fn forget_will(&self, record: &TaskRecord) -> Result<()> {
        self.connected("forget will").await?;
        self.inner.forget_will(record).await
    }

    async fn leave(&self, owner: &str) -> Result<()> {
        self.connected("leave").await?;
        self.inner.leave(owner).await
    }
}
