//! Several buses on one server, taken in turn: what holds here holds between processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_offload::RedisBus;
use tower_offload::bus::{
    Delivery, Directory, DirectoryWritten, Entry, EntryId, Lock, Log, MessageBus, OwnerLease, PubSub, Queue,
    Registry, Result, Retention, StoredTask, Subscription, TaskCheck, TaskWrite,
};
use tower_offload::{TaskId, TaskRecord};

#[derive(Debug)]
pub(crate) struct Many {
    buses: Vec<RedisBus>,
    turn: AtomicUsize,
}

impl Many {
    pub(crate) fn new(buses: Vec<RedisBus>) -> Self {
        Self { buses, turn: AtomicUsize::new(0) }
    }

    fn next(&self) -> &RedisBus {
        &self.buses[self.turn.fetch_add(1, Ordering::Relaxed) % self.buses.len()]
    }
}

macro_rules! forward {
    ($trait:ident { $(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $answer:ty;)+ }) => {
        #[async_trait]
        impl $trait for Many {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$answer> {
                self.next().$name($($argument),*).await
            })+
        }
    };
}

forward!(Registry {
    fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> ();
    fn get(&self, namespace: &str, field: &str) -> Option<String>;
    fn get_all(&self, namespace: &str) -> Vec<(String, String)>;
    fn contains(&self, namespace: &str, field: &str) -> bool;
    fn remove(&self, namespace: &str, field: &str) -> bool;
    fn clear(&self, namespace: &str) -> ();
    fn set_if(&self, namespace: &str, field: &str, value: &str, old: &str, ttl: Option<Duration>) -> bool;
    fn take(&self, namespace: &str, field: &str) -> Option<String>;
});

forward!(Queue {
    fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> EntryId;
    fn drain(&self, key: &str, max: usize) -> Vec<Entry>;
    fn peek(&self, key: &str, max: usize) -> Vec<Entry>;
    fn remove_through(&self, key: &str, id: EntryId) -> ();
    fn len(&self, key: &str) -> usize;
    fn delete(&self, key: &str) -> ();
});

forward!(PubSub {
    fn publish(&self, channel: &str, payload: &str) -> ();
    fn subscribe(&self, channels: &[&str]) -> Subscription;
});

forward!(Lock {
    fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> bool;
    fn renew(&self, key: &str, token: &str, ttl: Duration) -> bool;
    fn release(&self, key: &str, token: &str) -> bool;
    fn is_locked(&self, key: &str) -> bool;
});

forward!(Log {
    fn append(&self, key: &str, payload: &str, ttl: Option<Duration>, max_len: Option<usize>) -> EntryId;
    fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Vec<Entry>;
    fn trim(&self, key: &str, before: Option<EntryId>) -> ();
});

forward!(Directory {
    fn write(&self, lease: &OwnerLease, retention: &Retention, writes: &[TaskWrite]) -> DirectoryWritten;
    fn tasks(&self, user_id: &str, lease: Duration) -> Vec<StoredTask>;
    fn task(&self, user_id: &str, id: TaskId, lease: Duration) -> Option<StoredTask>;
    fn request_stop(&self, user_id: &str, ids: &[TaskId], at: SystemTime) -> ();
    fn check(&self, owner: &str, tasks: &[Arc<TaskRecord>]) -> Vec<TaskCheck>;
    fn forget_will(&self, record: &TaskRecord) -> ();
    fn leave(&self, owner: &str) -> ();
});

#[async_trait]
impl MessageBus for Many {
    fn is_shared(&self) -> bool {
        true
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        self.next().deliver(delivery).await
    }

    async fn finish_inbox(&self, session_id: &str) -> Result<bool> {
        self.next().finish_inbox(session_id).await
    }
}
