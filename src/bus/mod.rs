//! The one pluggable seam: a message bus, a small trait for each of its modes.
//!
//! | mode | trait | what for |
//! | --- | --- | --- |
//! | registry | [`Registry`] | which tasks live, by session; fields of a hash with a time to live |
//! | queue | [`Queue`] | a session's inbox, the wakeups; drained at most once |
//! | publish/subscribe | [`PubSub`] | cancel requests, signals; all current subscribers get a message |
//! | lock | [`Lock`] | leases with a token |
//! | log | [`Log`] | events that many read, each from where it was |
//! | directory | [`Directory`] | the tasks of all processes, by user |
//!
//! [`MemoryBus`] needs nothing installed and serves one process. `RedisBus` (feature `redis`) serves many, and speaks
//! the wire contract of AgentScope's `MessageBus`, whose shape the traits follow; [`keys`] has its names and
//! [`message`] its payloads.
//!
//! A host that runs sessions listens to [`Wakeups`], and reads the [`Inbox`] of each session that it runs.
//!
//! Payloads are JSON texts. A bus stores and hands out owned text and never looks inside: any text will do, and
//! so will any key, the empty one included. Keys of different modes may be in one space, as they are on Redis, so
//! that one key should serve one mode.
//!
//! # Times to live
//!
//! A time to live is that of a whole key, and counts from the last write that gave one; a write without one leaves
//! it as it is. With [`Duration::ZERO`] the write is done and what was written is gone at once. One that is longer
//! than the bus can express means for good. A key that holds nothing any more does not exist, and its time to live is
//! gone: in the registry always, in a queue that was drained empty on some buses. So a queue that should expire gets its
//! time to live with each push.
//!
//! # Errors and dropped calls
//!
//! Every call can fail with a [`BusError`]: the bus is not reachable, or has no room. After an error, and after the
//! future of a call was dropped before its end, what was asked for has been done or it has not, but never half.

mod carried;
mod directory;
mod error;
mod health;
mod inbox;
pub mod keys;
mod lease;
mod memory;
pub mod message;
pub(crate) mod python;
#[cfg(feature = "redis")]
mod redis;
mod subscription;
mod trouble;
mod wakeups;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::directory::LONGEST_LEASE;
pub use self::directory::{
    Directory, DirectoryWritten, OwnerLease, Retention, StoredTask, TaskCheck, TaskWrite, TaskWritten,
};
pub use self::error::BusError;
pub(crate) use self::error::caught;
pub use self::health::BusHealth;
pub use self::inbox::{Closing, Inbox};
pub use self::lease::{Lease, LeaseOptions, LockExt};
pub use self::memory::{MemoryBus, MemoryBusBuilder, MemoryBusStats};
pub use self::message::Delivery;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisBus, RedisBusBuilder, RedisBusStats};
pub use self::subscription::{Message, Subscription, SubscriptionEvent, SubscriptionSender};
pub use self::wakeups::{Wakeups, WakeupsBuilder, WakeupsHandle};

/// What every call on a bus answers.
pub type Result<T, E = BusError> = std::result::Result<T, E>;

/// One entry of a [`Queue`] or a [`Log`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The id that the bus gave it: `milliseconds-sequence`, growing within one key.
    pub id: EntryId,
    /// What was pushed or appended.
    pub payload: String,
}

impl Entry {
    /// An entry.
    pub fn new(id: EntryId, payload: impl Into<String>) -> Self {
        Self { id, payload: payload.into() }
    }
}

/// The id of an [`Entry`]: the milliseconds since the Unix epoch and a sequence number within them, as Redis
/// streams have it. Later entries of one key have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch.
    pub millis: u64,
    /// The sequence number within the millisecond.
    pub sequence: u64,
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// Fields of named hashes, each hash with a time to live.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Writes a field. With a `ttl` the whole `namespace` lives that long from now; without one its time to live,
    /// if it has one, stays as it was.
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()>;

    /// Reads a field.
    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>>;

    /// Reads all fields, in no particular order.
    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>>;

    /// Whether the field is there.
    async fn contains(&self, namespace: &str, field: &str) -> Result<bool>;

    /// Removes a field and says whether it was there.
    async fn remove(&self, namespace: &str, field: &str) -> Result<bool>;

    /// Removes the whole namespace.
    async fn clear(&self, namespace: &str) -> Result<()>;

    /// Writes a field if its value is `expected`, in one step, and says whether it did. A field that is not there
    /// never matches. A `ttl` is set only when the field was written.
    async fn set_if(
        &self,
        namespace: &str,
        field: &str,
        value: &str,
        expected: &str,
        ttl: Option<Duration>,
    ) -> Result<bool>;

    /// Reads and removes a field in one step: of many who ask, one gets it.
    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>>;
}

/// Queues whose entries are taken once.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts an entry at the end. With a `ttl` the whole queue lives that long from now.
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId>;

    /// Takes at most `max` entries from the front, in one step: competing callers get disjoint entries. The
    /// entries are gone from the queue when this returns.
    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>>;

    /// Reads at most `max` entries from the front and leaves them where they are.
    async fn peek(&self, key: &str, max: usize) -> Result<Vec<Entry>>;

    /// Removes the entries up to and including `id`, in one step. With [`peek`](Self::peek) a reader that fails between
    /// the two reads the same entries again; [`drain`](Self::drain) would lose them.
    async fn remove_through(&self, key: &str, id: EntryId) -> Result<()>;

    /// How many entries wait.
    async fn len(&self, key: &str) -> Result<usize>;

    /// Removes the queue with all that is in it.
    async fn delete(&self, key: &str) -> Result<()>;
}

/// Channels: each subscriber at the time of a message gets it.
#[async_trait]
pub trait PubSub: Send + Sync {
    /// Sends to all that are subscribed now, and does not wait for any of them: one that is too slow loses messages
    /// and is told so.
    async fn publish(&self, channel: &str, payload: &str) -> Result<()>;

    /// Subscribes to channels. When this returns the subscription is live: a message that is published from now on
    /// arrives, once even if its channel is named twice. Dropping the [`Subscription`] ends it.
    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription>;
}

/// Locks with a lease: a holder has the lock until the lease ends, and proves it with the token that it gave.
///
/// [`LockExt::lock`] waits, renews and releases by itself.
#[async_trait]
pub trait Lock: Send + Sync {
    /// Takes the lock for `ttl` if it is free, and says whether it did. A lock that `token` itself holds is not free:
    /// a holder that is not sure calls [`Lock::renew`].
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool>;

    /// Makes the lease last `ttl` from now, if `token` still holds the lock; says whether it does.
    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool>;

    /// Gives the lock back if `token` still holds it, and says whether it did.
    async fn release(&self, key: &str, token: &str) -> Result<bool>;

    /// Whether the lock is held.
    async fn is_locked(&self, key: &str) -> Result<bool>;
}

/// Logs that are read from any place and trimmed at the front.
#[async_trait]
pub trait Log: Send + Sync {
    /// Adds an entry at the end. With a `ttl` the whole log lives that long from now; with `max_len` the oldest
    /// entries beyond about that many are dropped.
    async fn append(
        &self,
        key: &str,
        payload: &str,
        ttl: Option<Duration>,
        max_len: Option<usize>,
    ) -> Result<EntryId>;

    /// Reads at most `max` entries that come after `after`, or from the start.
    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>>;

    /// Drops the entries before `before`, or all. A bus may keep some of the entries before `before` for a while.
    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()>;
}

/// A bus: all modes, and the steps that need several of them at once.
///
/// Implementations are chosen at run time, so that this trait is used as `Arc<dyn MessageBus>`.
#[async_trait]
pub trait MessageBus: Registry + Queue + PubSub + Lock + Log + Directory + std::fmt::Debug + 'static {
    /// Whether other processes are on the same bus. What only one process can see is not written to it.
    fn is_shared(&self) -> bool;

    /// Whether the bus can be reached, as far as is known without asking it. A bus within the process always can.
    fn health(&self) -> BusHealth {
        BusHealth::connected(None)
    }

    /// Puts a result into a session's inbox and, unless a consumer is already at it, queues one wakeup for the
    /// session and signals it. Says whether it queued one.
    ///
    /// One step: no crash leaves a result without its wakeup, and a delivery whose `dedupe_key` was already
    /// delivered to this session changes nothing, so that an attempt whose answer was lost can be repeated. For how
    /// long keys are remembered is up to the bus.
    async fn deliver(&self, delivery: &Delivery) -> Result<bool>;

    /// Ends the reading of a session's inbox if nothing is left in it: removes the consumer flag, the field
    /// [`CONSUMER_RUNNING`](keys::CONSUMER_RUNNING) of [`inbox_consumer`](keys::inbox_consumer), and says `true`.
    /// If something waits it changes nothing and says `false`: the consumer has to read again.
    ///
    /// One step, like [`deliver`](Self::deliver): of a result that comes at this moment either the consumer hears
    /// `false`, or its delivery finds no flag and wakes. A flag that is gone already makes no difference to the
    /// answer.
    async fn finish_inbox(&self, session_id: &str) -> Result<bool>;
}

/// The same bus for any number of owners.
pub type SharedBus = Arc<dyn MessageBus>;

/// Whether a count that went from `before` to `after` passed a power of two, so that a flood is told of often
/// enough to be seen, and seldom enough not to be one itself.
fn has_doubled(before: u64, after: u64) -> bool {
    after.checked_ilog2() > before.checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_told_at_one_and_at_each_power_of_two() {
        let told: Vec<u64> = (1..=20).filter(|n| has_doubled(n - 1, *n)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert!(has_doubled(5, 9) && has_doubled(0, u64::MAX));
        assert!(!has_doubled(0, 0) && !has_doubled(4, 7) && !has_doubled(9, 9));
    }
}
