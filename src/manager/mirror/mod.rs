//! The changes of this process's tasks that the directory on the bus does not have yet.
//!
//! The table has the state of the tasks; the mirror has what of it is to be written. No call waits for a write, and while the
//! bus cannot be reached, several changes of one task become one write. The limit on running tasks bounds what waits, because
//! a task counts as running until its end is written.

mod pending;

pub(super) use self::pending::{DecidedEnd, Unlisted};

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::limits::Limits;
use crate::bus::{Delivery, OwnerLease, Retention};
use crate::task::{TaskId, TaskRecord};

/// How many last wills wait in this process for their delivery.
const MAX_WILLS: usize = 4096;

/// What the directory says about the end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has the end.
    Written,
    /// It has another end: another process has declared the task lost.
    Fenced,
}

/// Waits for the verdict about an end that is not published.
pub(super) type VerdictReceiver = oneshot::Receiver<Verdict>;

/// One process's part of the directory.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) lease: OwnerLease,
    pub(super) retention: Retention,
    state: Mutex<State>,
    /// There is something for the keeper to do.
    pub(super) changed: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tasks: HashMap<TaskId, Mirrored>,
    /// The tasks whose last record is to be sent, each once, in order.
    dirty: VecDeque<TaskId>,
    /// How many tasks have a last record that is not known to have been written: those, and those under way.
    waiting: usize,
    /// Since when there has always been something to write.
    waiting_since: Option<SystemTime>,
    /// Fenced tasks that are to be removed from the lists of their sessions.
    unlisted: VecDeque<Unlisted>,
    /// The keeper should ask the directory what became of its tasks.
    pub(super) check: bool,
    /// The hints of lost tasks that are to be delivered from here.
    pub(super) wills: HashMap<TaskId, Will>,
}

/// The last will of a lost task.
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) record: TaskRecord,
    pub(super) delivery: Arc<Delivery>,
}

/// A task until its end is written.
#[derive(Debug)]
pub(super) struct Mirrored {
    /// The last record, which may say that the task has ended.
    pub(super) record: Arc<TaskRecord>,
    /// The last record that says that it runs: what readers see until the end is written.
    shown: Arc<TaskRecord>,
    /// Of `record`.
    version: u64,
    /// The last version that is known to have been written.
    pub(super) written: u64,
    position: Option<u64>,
    last_will: Option<Arc<Delivery>>,
    dirty: bool,
    /// Counted in [`State::waiting`].
    waiting: bool,
    verdict: Option<oneshot::Sender<Verdict>>,
}

/// A task of this process, at the moment when a reader began to read the directory.
#[derive(Debug)]
pub(super) struct OwnTask {
    pub(super) record: Arc<TaskRecord>,
    pub(super) version: u64,
    pub(super) position: Option<u64>,
}

impl Mirror {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lease: OwnerLease { owner: Uuid::new_v4().to_string().into(), ttl: limits.lease },
            retention: Retention { max_per_user: limits.max_retained_per_user, time: limits.retain_for },
            state: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Nothing that could panic, wait or call user code runs under the lock.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owner(&self) -> &Arc<str> {
        &self.lease.owner
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.lease.ttl
    }

    /// A task begins to run.
    pub(super) fn begin(&self, record: &TaskRecord, last_will: Option<Delivery>) {
        let record = Arc::new(record.clone());
        let mirrored = Mirrored {
            shown: Arc::clone(&record),
            record,
            version: 1,
            written: 0,
            position: None,
            last_will: last_will.map(Arc::new),
            dirty: false,
            waiting: false,
            verdict: None,
        };
        let id = mirrored.record.id;
        let mut state = self.state();
        state.tasks.insert(id, mirrored);
        state.mark(id);
    }

    /// A running task has changed, such as that it was asked to stop.
    pub(super) fn update(&self, record: &TaskRecord) {
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(&record.id) else { return };
        task.record = Arc::new(record.clone());
        task.shown = Arc::clone(&task.record);
        task.version += 1;
        state.mark(record.id);
    }

    /// The work of a task has ended, as `record` says. The receiver gets the verdict of the directory.
    pub(super) fn end(&self, record: &TaskRecord) -> VerdictReceiver {
        let (verdict, receiver) = oneshot::channel();
        let mut state = self.state();
        match state.tasks.get_mut(&record.id) {
            Some(task) => {
                task.record = Arc::new(record.clone());
                task.version += 1;
                task.verdict = Some(verdict);
                state.mark(record.id);
            }
            // Another process has ended it before.
            None => drop(verdict.send(Verdict::Fenced)),
        }
        receiver
    }

    pub(super) fn wake_keeper(&self) {
        self.changed.notify_one();
    }

    /// Asks the keeper to look what became of the tasks: cancels may have been missed.
    pub(super) fn check_soon(&self) {
        self.state().check = true;
        self.wake_keeper();
    }

    /// Notes a last will that is to be delivered from here. One that finds no room is found again by a later read.
    pub(super) fn add_will(&self, will: Will) {
        let mut state = self.state();
        if state.wills.len() < MAX_WILLS {
            state.wills.entry(will.record.id).or_insert(will);
        }
    }

    /// Whether last wills of lost tasks wait for their delivery.
    pub(super) fn has_wills(&self) -> bool {
        !self.state().wills.is_empty()
    }

    /// How many tasks have a change to write, and since when there was always one.
    pub(super) fn waiting(&self) -> (usize, Option<SystemTime>) {
        let state = self.state();
        (state.waiting, state.waiting_since)
    }

    /// Whether this process has such a task, and its end is not written.
    pub(super) fn has(&self, id: TaskId) -> bool {
        self.state().tasks.contains_key(&id)
    }

    /// The tasks of this process among `ids` whose end is not written.
    pub(super) fn own(&self, ids: impl Iterator<Item = TaskId>) -> Vec<OwnTask> {
        let state = self.state();
        ids.filter_map(|id| state.tasks.get(&id)).map(Mirrored::own).collect()
    }
}

impl Mirrored {
    fn own(&self) -> OwnTask {
        OwnTask { record: Arc::clone(&self.shown), version: self.version, position: self.position }
    }
}
