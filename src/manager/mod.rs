//! The task manager: runs offloaded calls to their end, keeps their records, and stops them on request.
//!
//! [`TaskManager`] is a cheap handle; [`OffloadLayer`](crate::OffloadLayer) hands calls over to it, and
//! [`TaskManager::spawn`] runs any future as a task. Every read and every stop has a [`Scope`]: a task of another user gets
//! the answer of one that does not exist.
//!
//! # The life of a task
//!
//! The manager admits a task (or [refuses](Refused) it, at a limit), runs it, and ends it once. The record turns terminal
//! when the future is dropped, never before, and on a [shared](crate::bus::MessageBus::is_shared) bus when all processes can
//! see the end; after that the result is delivered. The manager keeps finished records as the
//! [builder](TaskManagerBuilder) says: for each user the newest by end.
//!
//! # Differences from `tokio::spawn` and `TaskTracker`
//!
//! A `JoinHandle` is one owner's view of one task. Here any caller can read a task by its id, within the scope of its owner.
//! A panic is an outcome, a stop is a request that is recorded apart from its effect, and everything is bounded.

mod admission;
mod answers;
mod builder;
mod cancel;
mod changes;
mod context;
mod deliver;
mod ends;
mod health;
mod janitor;
mod limits;
mod log_limits;
mod mirror;
mod news;
mod peers;
mod reads;
mod redactor;
mod refused;
mod shared;
mod shutdown;
mod span;
mod stats;
mod stops;
mod table;
mod timer;
mod work;
mod worker;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use self::peers::View;
use self::shared::Shared;
use self::work::Spawned;
use crate::bus::{self, SharedBus};
use crate::task::{IntoOutcome, Scope, TaskId, TaskMeta, TaskRecord};

pub use self::answers::{BoxError, Ended, StopOutcome};
pub use self::builder::TaskManagerBuilder;
pub use self::cancel::{CancelDispatcher, CancelDispatcherBuilder};
pub use self::changes::{TaskChange, TaskChanges};
pub use self::context::cancellation_token;
pub(crate) use self::context::in_background;
pub(crate) use self::deliver::Published;
pub use self::health::TaskManagerHealth;
#[cfg(feature = "tool")]
pub(crate) use self::redactor::Redactor;
pub use self::refused::{Refused, Rejected};
pub use self::shutdown::ShutdownReport;
pub use self::stats::TaskManagerStats;
pub(crate) use self::work::{CallState, Work};

/// A handle to the tasks of this process.
///
/// Clones are the same manager. Dropping all handles stops nothing: running tasks go on to their end, as long as
/// their runtime lives. To stop, call [`shutdown`](Self::shutdown).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_offload::task::Scope;
/// use tower_offload::{TaskManager, TaskMeta, TaskStatus};
///
/// let manager = TaskManager::builder().max_retained_per_user(20).build();
/// let task = manager.spawn(TaskMeta::new("alice", "import"), async { Err::<(), _>("disk full") })?;
///
/// let alice = Scope::user("alice");
/// let task = manager.wait(&alice, task.id).await?.expect("it is retained");
/// assert_eq!(task.status, TaskStatus::Failed);
/// assert_eq!(task.error_summary.as_deref(), Some("disk full"));
/// assert!(manager.get(&Scope::user("bob"), task.id).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TaskManager {
    shared: Arc<Shared>,
}

impl TaskManager {
    /// A manager with all defaults, on a [`MemoryBus`](crate::MemoryBus) of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A builder, to set limits, retention and the bus.
    pub fn builder() -> TaskManagerBuilder {
        TaskManagerBuilder::default()
    }

    /// The message bus.
    #[must_use]
    pub fn bus(&self) -> &SharedBus {
        &self.shared.bus
    }

    /// The rule for secrets in texts.
    #[cfg(feature = "tool")]
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.shared.limits.redactor
    }

    /// Runs a future as a background task, and returns the record of the task at once.
    ///
    /// `()` and `Ok` are a success, `Err` is a failure with the error's text, and an
    /// [`Outcome`](crate::task::Outcome) is itself. The future can watch its [`cancellation_token`].
    ///
    /// # Errors
    ///
    /// At a limit, after a shutdown began, and outside of a runtime; the future is in the error.
    pub fn spawn<F>(&self, meta: TaskMeta, future: F) -> Result<TaskRecord, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: IntoOutcome,
    {
        match self.admit(meta, &CallState::default()) {
            Ok(admission) => {
                let record = admission.record().clone();
                admission.run(Spawned::new(future));
                Ok(record)
            }
            Err(refused) => Err(Rejected::new(refused, future)),
        }
    }

    /// The former name of [`spawn`](Self::spawn).
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    #[deprecated(since = "0.1.0", note = "renamed to `spawn`")]
    pub fn register<F>(&self, meta: TaskMeta, future: F) -> Result<TaskRecord, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: IntoOutcome,
    {
        self.spawn(meta, future)
    }

    /// Asks a task to stop. Safe to repeat.
    ///
    /// Its [`cancellation_token`] is cancelled, and after the grace time of the builder its future is dropped.
    /// A task that another process runs is asked over the bus; the request is also kept with the task, so that a
    /// process that is cut off finds it when it is back.
    ///
    /// # Errors
    ///
    /// When the bus has to be asked and cannot be.
    pub async fn stop(&self, scope: &Scope, id: TaskId) -> bus::Result<StopOutcome> {
        match self.shared.request_stop(scope, id) {
            StopOutcome::NotFound => {}
            found => return Ok(found),
        }
        match View::of(&self.shared) {
            Some(view) => view.stop(scope, id).await,
            None => Ok(StopOutcome::NotFound),
        }
    }

    /// Asks a task to stop by the text of its id: a task of this crate, or one that AgentScope runs on the same Redis.
    ///
    /// An agent names a task by text, and AgentScope's ids are not UUIDs. The text of a [`TaskId`] as it is displayed is
    /// [`stop`](Self::stop). Any other text is looked for among the tasks that AgentScope has registered in the session of
    /// the scope: it keeps them by session alone, so a scope without a session finds none. On one process there are none.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub async fn stop_foreign(&self, scope: &Scope, id: &str) -> bus::Result<StopOutcome> {
        if let Some(id) = TaskId::canonical(id) {
            return self.stop(scope, id).await;
        }
        match View::of(&self.shared) {
            Some(view) => view.stop_foreign(scope, id).await,
            None => Ok(StopOutcome::NotFound),
        }
    }

    /// Asks all running tasks of a scope to stop, and says how many they are: a session that is deleted, a user who
    /// leaves. Tasks that have ended are neither touched nor counted.
    ///
    /// Other processes are asked over the bus. AgentScope knows a session by its id alone: it stops all that it runs in the
    /// session, whatever user the scope names.
    ///
    /// # Errors
    ///
    /// When other processes that may run some have to be asked and cannot be, after those of this process were asked;
    /// never on one process.
    pub async fn stop_all(&self, scope: &Scope) -> bus::Result<usize> {
        let here = self.shared.request_stop_all(scope);
        match View::of(&self.shared) {
            Some(view) => Ok(here + view.stop_all(scope).await?),
            None => Ok(here),
        }
    }

    /// The former name of [`stop_all`](Self::stop_all).
    ///
    /// # Errors
    ///
    /// As [`stop_all`](Self::stop_all).
    #[deprecated(since = "0.1.0", note = "renamed to `stop_all`")]
    pub async fn cancel_session(&self, scope: &Scope) -> bus::Result<usize> {
        self.stop_all(scope).await
    }

    /// The changes of the tasks of a scope, from now on.
    #[must_use]
    pub fn subscribe(&self, scope: Scope) -> TaskChanges {
        TaskChanges::new(scope, self.shared.subscribe())
    }

    /// Whether the bus is there, and what waits for it.
    #[must_use]
    pub fn health(&self) -> TaskManagerHealth {
        let mirror = self.shared.mirror();
        let (waiting_records, waiting_since) = mirror.map_or((0, None), |mirror| mirror.waiting());
        let waiting_results = self.shared.waiting_results();
        TaskManagerHealth { bus: self.shared.bus.health(), waiting_records, waiting_results, waiting_since }
    }

    /// What the manager holds now, and has done so far.
    #[must_use]
    pub fn stats(&self) -> TaskManagerStats {
        let table = self.shared.fresh_table();
        let counters = table.counters;
        TaskManagerStats {
            running: table.running(),
            retained: table.retained(),
            result_bytes: table.result_bytes(),
            active: table.active(),
            admitted: counters.admitted,
            refused: counters.refused,
            completed: counters.completed,
            failed: counters.failed,
            cancelled: counters.cancelled,
            late: counters.late,
            results_dropped: counters.results_dropped,
            undelivered: counters.undelivered,
        }
    }
}

impl Default for TaskManager {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TaskManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskManager").finish_non_exhaustive()
    }
}
