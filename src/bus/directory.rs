use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Delivery, Result};
use crate::task::{TaskId, TaskRecord};

/// A process's claim to be alive. Its running tasks are as good as lost when it has not been renewed for `ttl`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerLease {
    /// Names one life of one process: a process that starts again is another owner.
    pub owner: Arc<str>,
    /// For how long the claim holds from each renewal on.
    pub ttl: Duration,
}

impl OwnerLease {
    /// A claim of `owner` that holds for `ttl` from each renewal on.
    pub fn new(owner: impl Into<Arc<str>>, ttl: Duration) -> Self {
        Self { owner: owner.into(), ttl }
    }
}

/// How long the directory keeps tasks that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How many of each user; beyond that the one that ended first is dropped.
    pub max_per_user: u32,
    /// How long each; `None` for as long as there is room.
    pub time: Option<Duration>,
}

impl Retention {
    /// So many of each user, and each for so long; `None` for as long as there is room.
    pub fn new(max_per_user: u32, time: impl Into<Option<Duration>>) -> Self {
        Self { max_per_user, time: time.into() }
    }
}

/// For how much longer than its tasks a user's part of the directory lives: longer than an owner is between two
/// [checks](Directory::check).
pub(crate) const KEY_SLACK: Duration = Duration::from_secs(600);

/// An owner checks its tasks once in a lease, and half of the slack is for one that is late.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(KEY_SLACK.as_secs() / 2);

/// For how long a user's part of the directory lives after a write.
pub(crate) fn key_ttl(retention: &Retention) -> Duration {
    retention.time.map_or(Duration::MAX, |time| time.saturating_add(KEY_SLACK))
}

/// A task as it should be in the directory from now on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskWrite {
    /// The record. A running one is also listed in the registry of its session
    /// ([`keys::background_tasks`](super::keys::background_tasks)), one that has ended is not.
    pub record: Arc<TaskRecord>,
    /// Grows with each write of the task, and is 1 for the first.
    pub version: u64,
    /// The owner whose record is overwritten: the writer itself, or the dead owner when another process repairs it.
    pub expected_owner: Arc<str>,
    /// Its place among the user's tasks, if it has one already.
    pub position: Option<u64>,
    /// Members of the stored record that this version does not know, as a JSON object: a repair keeps what a newer version
    /// wrote. `None` for a task of the writer's own.
    pub unknown_members: Option<Arc<str>>,
    /// The write counts only if the directory has the task: a repair never adds one that was dropped meanwhile.
    pub must_exist: bool,
    /// What is delivered if the owner dies. Kept from the first write on; the owner's own end of the task removes it.
    pub last_will: Option<Arc<Delivery>>,
}

impl TaskWrite {
    /// A write without a position and without a last will, which adds the task if the directory does not have it.
    pub fn new(
        record: impl Into<Arc<TaskRecord>>,
        version: u64,
        expected_owner: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            record: record.into(),
            version,
            expected_owner: expected_owner.into(),
            position: None,
            unknown_members: None,
            must_exist: false,
            last_will: None,
        }
    }
}

/// What became of a [`TaskWrite`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskWritten {
    /// It is in the directory.
    Written {
        /// Its place among the user's tasks.
        position: u64,
    },
    /// It is not: the task has ended, has another owner, or is at a later version. Nothing was changed.
    Refused {
        /// The record that the directory has instead; `None` if a record that should be repaired is gone.
        found: Option<Box<StoredTask>>,
    },
}

/// What a [`Directory::write`] found and did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirectoryWritten {
    /// The lease had run out, or was never there: others may have declared the owner's tasks lost.
    pub lease_had_ended: bool,
    /// One for each write, in their order.
    pub tasks: Vec<TaskWritten>,
}

impl DirectoryWritten {
    /// What was found and done.
    #[must_use]
    pub const fn new(lease_had_ended: bool, tasks: Vec<TaskWritten>) -> Self {
        Self { lease_had_ended, tasks }
    }
}

/// A task as it is in the directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredTask {
    /// The record, with the time of a stop that was asked for over the directory.
    pub record: TaskRecord,
    /// Who wrote it last.
    pub owner: Arc<str>,
    /// The version of the last write.
    pub version: u64,
    /// Its place among the user's tasks: they are listed in this order.
    pub position: u64,
    /// What the record has beside the members that this version knows, as a JSON object. Only for a running task whose
    /// owner is gone, which may be repaired.
    pub unknown_members: Option<Arc<str>>,
    /// Whether the owner holds its lease. While a bus cannot know, because it was away itself until now, it says that
    /// the owner does.
    pub owner_alive: bool,
    /// What is to be delivered for a task that was lost.
    pub last_will: Option<Delivery>,
}

impl StoredTask {
    /// A task whose owner holds its lease, and without a last will.
    pub fn new(record: TaskRecord, owner: impl Into<Arc<str>>, version: u64, position: u64) -> Self {
        Self {
            record,
            owner: owner.into(),
            version,
            position,
            unknown_members: None,
            owner_alive: true,
            last_will: None,
        }
    }

    /// What the record has beside the members that this version knows.
    #[must_use]
    pub fn with_unknown_members(mut self, members: impl Into<Option<Arc<str>>>) -> Self {
        self.unknown_members = members.into();
        self
    }

    /// Whether the owner holds its lease.
    #[must_use]
    pub const fn with_owner_alive(mut self, owner_alive: bool) -> Self {
        self.owner_alive = owner_alive;
        self
    }

    /// What is to be delivered for a task that was lost.
    #[must_use]
    pub fn with_last_will(mut self, last_will: impl Into<Option<Delivery>>) -> Self {
        self.last_will = last_will.into();
        self
    }
}

/// What an owner learns about one of its running tasks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskCheck {
    /// It is there as its owner has written it.
    Held,
    /// It is there as its owner has written it, and its stop was asked for.
    StopRequested(SystemTime),
    /// It is not there: the bus has lost it.
    Missing,
    /// Another process has ended it.
    Lost(Box<StoredTask>),
}

/// The view that several processes share: the tasks of each user, in whichever process they run.
///
/// Only the owner writes a running task, and what has ended is never written again. The one exception: when the
/// lease of the owner has run out, any process may end the task as lost, once.
///
/// Every method is one round trip, or none when there is nothing to ask.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Renews the lease and then makes the writes, each of them atomic.
    ///
    /// A write counts if the task is running, owned by `expected_owner`, and at an earlier version. It also counts if the
    /// task is not there, `expected_owner` is the lease's own, and the write does not say `must_exist`. The very one that was made already is answered as before, so that an
    /// attempt whose answer was lost can be repeated.
    async fn write(
        &self,
        lease: &OwnerLease,
        retention: &Retention,
        writes: &[TaskWrite],
    ) -> Result<DirectoryWritten>;

    /// All tasks of a user, in the order of their positions.
    ///
    /// `lease` is how long the leases of owners are, so that a bus that was away itself knows when to judge again.
    async fn tasks(&self, user_id: &str, lease: Duration) -> Result<Vec<StoredTask>>;

    /// One task of a user.
    async fn task(&self, user_id: &str, id: TaskId, lease: Duration) -> Result<Option<StoredTask>>;

    /// Notes for the owners that these tasks of a user should stop. The time of the first request counts; a task that is
    /// not running is skipped.
    async fn request_stop(&self, user_id: &str, ids: &[TaskId], at: SystemTime) -> Result<()>;

    /// Looks after running tasks of `owner`: makes them live on in the directory and in the registry, and says of
    /// each what is to be known.
    async fn check(&self, owner: &str, tasks: &[Arc<TaskRecord>]) -> Result<Vec<TaskCheck>>;

    /// Drops the last will of a task, when it was delivered, and its entry in the registry.
    async fn forget_will(&self, record: &TaskRecord) -> Result<()>;

    /// Ends the lease of an owner that leaves in good order.
    async fn leave(&self, owner: &str) -> Result<()>;
}
