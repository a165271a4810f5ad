//! What this process writes to the directory that several processes share.
//!
//! The table is the truth about what runs here; this is what of it the others have not seen yet. Writing is
//! behind: no call waits for the bus, and while the bus is away changes of one task become one write. What waits is
//! bounded by the limit on running tasks, because a task counts until its end was written.

mod health;
mod keeper;
mod lost;
mod pending;
mod view;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use uuid::Uuid;

pub use self::health::TaskManagerHealth;
use self::keeper::Keeper;
pub(super) use self::view::View;
use super::limits::Limits;
use super::shared::Shared;
use crate::bus::{Delivery, OwnerLease, Retention, SharedBus};
use crate::task::{TaskId, TaskRecord};

/// How long to try to end the lease at a shutdown.
const LEAVE: Duration = Duration::from_secs(1);

/// What the directory says about the end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was written.
    Written,
    /// Somebody else had declared the task lost, and its session was told.
    Fenced,
}

/// One manager's part of the directory.
#[derive(Debug)]
pub(super) struct Mirror {
    lease: OwnerLease,
    retention: Retention,
    state: Mutex<State>,
    changed: Arc<Notify>,
    keeper: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct State {
    tasks: HashMap<TaskId, Mirrored>,
    /// Whose last record is to be sent, each once, in order.
    dirty: VecDeque<TaskId>,
    /// How many tasks have a last record that is not known to have been written: those, and those under way.
    waiting: usize,
    /// Since when there has always been something to write.
    waiting_since: Option<SystemTime>,
    /// The owner should look what became of its tasks.
    check: bool,
    keeping: bool,
    /// The process has left: nothing starts the keeper again.
    left: bool,
    /// Last wills that are being delivered from here.
    wills: HashSet<TaskId>,
}

/// A task until its end was written.
#[derive(Debug)]
struct Mirrored {
    record: Arc<TaskRecord>,
    /// Of `record`.
    version: u64,
    /// The last version that is known to have been written.
    written: u64,
    position: Option<u64>,
    last_will: Option<Arc<Delivery>>,
    dirty: bool,
    /// Counted in [`State::waiting`].
    waiting: bool,
    verdict: Option<oneshot::Sender<Verdict>>,
}

/// A task of this process, at the moment when somebody began to read the directory.
#[derive(Debug)]
struct Own {
    record: Arc<TaskRecord>,
    version: u64,
    position: Option<u64>,
}

impl Mirror {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lease: OwnerLease { owner: Uuid::new_v4().to_string().into(), ttl: limits.lease },
            retention: Retention { max_per_user: limits.max_retained_per_user, time: limits.retain_for },
            state: Mutex::default(),
            changed: Arc::default(),
            keeper: Mutex::default(),
        }
    }

    /// Nothing that could panic or wait runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owner(&self) -> &Arc<str> {
        &self.lease.owner
    }

    /// A task begins to run.
    pub(super) fn begin(&self, record: &TaskRecord, last_will: Option<Delivery>) {
        let mirrored = Mirrored {
            record: Arc::new(record.clone()),
            version: 1,
            written: 0,
            position: None,
            last_will: last_will.map(Arc::new),
            dirty: false,
            waiting: false,
            verdict: None,
        };
        let mut state = self.state();
        state.tasks.insert(record.id, mirrored);
        state.mark(record.id);
        drop(state);
        self.changed.notify_one();
    }

    /// A running task is different now.
    pub(super) fn update(&self, record: &TaskRecord) {
        self.replace(record, None);
    }

    /// A task has ended; tells when that is known to all. The sender goes if it never will be.
    pub(super) fn end(&self, record: &TaskRecord) -> oneshot::Receiver<Verdict> {
        let (verdict, told) = oneshot::channel();
        self.replace(record, Some(verdict));
        told
    }

    fn replace(&self, record: &TaskRecord, verdict: Option<oneshot::Sender<Verdict>>) {
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(&record.id) else {
            // Not begun, or taken away by somebody else.
            if let Some(verdict) = verdict {
                let _ = verdict.send(Verdict::Fenced);
            }
            return;
        };
        task.record = Arc::new(record.clone());
        task.version += 1;
        task.verdict = verdict;
        state.mark(record.id);
        drop(state);
        self.changed.notify_one();
    }

    /// Asks the keeper to look what became of the tasks: cancels may have been missed.
    pub(super) fn check_soon(&self) {
        self.state().check = true;
        self.changed.notify_one();
    }

    /// The tasks of this process among `ids`, as far as they are not over and written.
    fn own(&self, ids: impl Iterator<Item = TaskId>) -> Vec<Own> {
        let state = self.state();
        ids.filter_map(|id| state.tasks.get(&id)).map(Mirrored::own).collect()
    }

    fn is_own(&self, id: TaskId) -> bool {
        self.state().tasks.contains_key(&id)
    }

    /// Starts what renews the lease and writes, unless it is at it.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        {
            let mut state = self.state();
            if state.keeping || state.left {
                return;
            }
            state.keeping = true;
        }
        let Some(runtime) = shared.runtime() else {
            self.state().keeping = false;
            return;
        };
        let keeper = runtime.spawn(Keeper::new(shared).run()).abort_handle();
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
    }

    /// Nothing more is written or renewed.
    pub(super) fn stop(&self) {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
    }

    /// The process goes in good order: nothing of it is left to be lost.
    pub(super) async fn leave(&self, bus: &SharedBus) {
        self.stop();
        self.state().left = true;
        match timeout(LEAVE, bus.leave(self.owner())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease ends with its time"),
            Err(_) => tracing::debug!("the lease ends with its time"),
        }
    }

    fn ttl(&self) -> Duration {
        self.lease.ttl
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Mirrored {
    fn own(&self) -> Own {
        Own { record: Arc::clone(&self.record), version: self.version, position: self.position }
    }
}
