mod builder;
mod deliver;
mod directory;
mod limits;
mod lock;
mod log;
mod pubsub;
mod queue;
mod registry;
mod side;
mod stats;
mod stream;
mod table;
mod wakeups;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

pub use self::builder::MemoryBusBuilder;
use self::deliver::Deliveries;
use self::directory::Tasks;
use self::limits::{Budget, Limits};
use self::lock::Locks;
use self::pubsub::Channels;
use self::registry::Hashes;
pub use self::stats::MemoryBusStats;
use self::stream::{Kind, Streams};
use super::{Result, has_doubled};
use crate::panics::quietly;

/// The bus of one process: nothing to install, nothing left behind.
///
/// Cheap to clone; all clones are the same bus. Everything is forgotten when the last clone is dropped, and
/// subscriptions end then.
///
/// # Time
///
/// Times to live and leases run on tokio's clock, so that paused time works in tests. There is no background task:
/// what has expired is freed by the next call of any kind, whatever its key. Only subscriptions and [`LockExt`]
/// need a runtime around them; every other call is done when it is polled for the first time, and does nothing
/// when it never is.
///
/// # Bounds
///
/// Clients choose the names of keys, and a queue may have no reader. So the bus has limits:
///
/// - For each queue and each log: its oldest entries go. In the queue of [wakeups](super::keys::WAKEUPS) the oldest
///   entries go of the user who has most of them.
/// - For all queues and logs together: the oldest entries go of the holder that has most. Results that are
///   [delivered](super::MessageBus::deliver) and wakeups are held by their user, all other entries by the program. So no
///   user can crowd out the results or wakeups of another one.
/// - For each subscriber: new messages go, and the subscriber gets their number.
/// - For registry, locks and directory together: first go ended tasks, the oldest of the user that has most of them; then
///   whole namespaces with a time to live, the one that was written longest ago first. Locks, leases, running tasks and
///   namespaces without a time to live stay. When nothing is left that may go, writes are refused.
///
/// The bus counts in [`MemoryBus::stats`] what it has dropped, and logs a warning for the first one and whenever the count
/// has doubled. See [`MemoryBusBuilder`] for the limits.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_offload::MemoryBus;
/// use tower_offload::bus::{PubSub, Queue, Registry, SubscriptionEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_offload::bus::BusError> {
/// let bus = MemoryBus::new();
///
/// bus.set("tasks", "t1", "{}", Some(Duration::from_secs(15))).await?;
/// assert!(bus.contains("tasks", "t1").await?);
///
/// let mut signals = bus.subscribe(&["signal"]).await?;
/// bus.push("inbox", r#"{"text": "done"}"#, None).await?;
/// bus.publish("signal", "{}").await?;
///
/// assert!(matches!(signals.recv().await, Some(SubscriptionEvent::Message(_))));
/// assert_eq!(bus.drain("inbox", 10).await?[0].payload, r#"{"text": "done"}"#);
/// assert_eq!(bus.stats().queues, 0);
/// # Ok(())
/// # }
/// ```
///
/// [`LockExt`]: super::LockExt
#[derive(Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    shared: bool,
    // Never both at once.
    state: Mutex<State>,
    channels: Mutex<Channels>,
}

/// All that is stored. Under one lock, so that what a call does is one step for everybody else.
struct State {
    hashes: Hashes,
    locks: Locks,
    /// For `hashes`, `locks` and `tasks`.
    budget: Budget,
    /// What had to go for the sake of newer data in there.
    dropped: u64,
    /// How many writes to hashes, locks and tasks had no room.
    refused: u64,
    streams: Streams,
    deliveries: Deliveries,
    tasks: Tasks,
}

/// What was dropped and refused since the bus was made.
struct Losses {
    entries: u64,
    records: u64,
    refused: u64,
}

impl State {
    const fn losses(&self) -> Losses {
        let refused = self.refused + self.streams.refused();
        Losses { entries: self.streams.dropped(), records: self.dropped, refused }
    }

    fn expire(&mut self, now: Instant) {
        self.hashes.expire(&mut self.budget, now);
        self.locks.expire(&mut self.budget, now);
        self.streams.expire(now);
        self.tasks.expire(&mut self.budget, now);
    }

    /// Repeats a step that changes nothing while the budget refuses it, and makes room in between. First go ended tasks,
    /// those of the user that has most of them, then hashes that will expire, but not `keep`. Locks, leases, running tasks
    /// and what lives for good stay.
    fn with_room<R>(&mut self, keep: &str, mut step: impl FnMut(&mut Self) -> Result<R>) -> Result<R> {
        loop {
            let refused = match step(self) {
                Err(refused) => refused,
                done => return done,
            };
            let Some(missing) = self.budget.take_missing() else {
                self.refused += 1;
                return Err(refused);
            };
            let enough = self.budget.used().saturating_sub(missing);
            while self.budget.used() > enough {
                let dropped = self.tasks.drop_oldest_end(&mut self.budget)
                    || self.hashes.drop_oldest(&mut self.budget, keep);
                if !dropped {
                    self.refused += 1;
                    return Err(refused);
                }
                self.dropped += 1;
            }
        }
    }
}

impl MemoryBus {
    /// An empty bus with the default limits, for the use of one manager.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets limits, and whether several managers share the bus.
    pub fn builder() -> MemoryBusBuilder {
        MemoryBusBuilder::default()
    }

    fn with_limits(limits: Limits, shared: bool) -> Self {
        let state = State {
            hashes: Hashes::default(),
            locks: Locks::default(),
            budget: Budget::new(limits.registry_bytes),
            dropped: 0,
            refused: 0,
            streams: Streams::new(limits),
            deliveries: Deliveries::new(limits.deliveries),
            tasks: Tasks::default(),
        };
        let channels = Mutex::new(Channels::default());
        Self { inner: Arc::new(Inner { limits, shared, state: Mutex::new(state), channels }) }
    }

    /// What the bus holds now, and what it had to drop.
    #[must_use]
    pub fn stats(&self) -> MemoryBusStats {
        let stored = self.with_state(|state, _| {
            let [queues, logs, wakeups] =
                [Kind::Queue, Kind::Log, Kind::Wakeups].map(|kind| state.streams.side(kind));
            MemoryBusStats {
                queues: queues.len() + usize::from(wakeups.entries() > 0),
                queued_entries: queues.entries() + wakeups.entries(),
                queued_bytes: queues.bytes() + wakeups.bytes(),
                logs: logs.len(),
                logged_entries: logs.entries(),
                logged_bytes: logs.bytes(),
                dropped_entries: state.streams.dropped(),
                namespaces: state.hashes.len(),
                fields: state.hashes.fields(),
                locks: state.locks.len(),
                registry_bytes: state.budget.used(),
                dropped_from_registry: state.dropped,
                refused_writes: state.losses().refused,
                remembered_deliveries: state.deliveries.len(),
                ..MemoryBusStats::default()
            }
        });
        let (stats, _removed) = self.with_channels(|channels| {
            let removed = channels.sweep();
            let stats = MemoryBusStats {
                channels: channels.len(),
                subscribers: channels.count(),
                lagged_messages: channels.lagged(),
                ..stored
            };
            (stats, removed)
        });
        stats
    }

    /// Runs one step on what is stored, after what is due by now has expired.
    fn with_state<R>(&self, step: impl FnOnce(&mut State, Instant) -> R) -> R {
        let (result, before, after, bytes) = {
            // A panic within a step would be a bug here; the rest of the process need not stop for it.
            let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            state.expire(now);
            let before = state.losses();
            let result = step(&mut state, now);
            let after = state.losses();
            (result, before, after, (state.streams.bytes(), state.budget.used()))
        };
        // Outside of the lock: a subscriber of logs may do anything.
        if has_doubled(before.entries, after.entries) {
            quietly(|| {
                tracing::warn!(
                    dropped_entries = after.entries,
                    stored_bytes = bytes.0,
                    "the message bus is full: the oldest entries of queues or logs were dropped"
                );
            });
        }
        if has_doubled(before.records, after.records) {
            quietly(|| {
                tracing::warn!(
                    dropped_from_registry = after.records,
                    registry_bytes = bytes.1,
                    "the message bus is full: ended tasks, or what would have expired, were dropped from the registry"
                );
            });
        }
        if has_doubled(before.refused, after.refused) {
            quietly(|| {
                tracing::warn!(
                    refused_writes = after.refused,
                    stored_bytes = bytes.0,
                    registry_bytes = bytes.1,
                    "the message bus is full: a write was refused"
                );
            });
        }
        result
    }

    /// Runs one step on what is known about subscribers. What it removes it returns, to be dropped outside of the lock:
    /// the last sender of a subscription wakes it.
    fn with_channels<R>(&self, step: impl FnOnce(&mut Channels) -> R) -> R {
        let (result, before, after) = {
            let mut channels = self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner);
            let before = channels.lagged();
            let result = step(&mut channels);
            (result, before, channels.lagged())
        };
        if has_doubled(before, after) {
            quietly(|| {
                tracing::warn!(
                    lagged_messages = after,
                    "a subscriber of the message bus is too slow: messages to it were lost"
                );
            });
        }
        result
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is stored: it belongs to users, and reading it takes the lock.
        let Inner { limits, shared, .. } = &*self.inner;
        f.debug_struct("MemoryBus").field("shared", shared).field("limits", limits).finish_non_exhaustive()
    }
}
