//! What all handles, workers and listeners of one manager share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::changes;
use super::limits::Limits;
use super::table::Table;
use crate::bus::SharedBus;
use crate::task::{Scope, Settlement, TaskId, TaskRecord};

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) limits: Limits,
    pub(super) bus: SharedBus,
    pub(super) tracker: TaskTracker,
    runtime: Option<Handle>,
    changes: OnceLock<broadcast::Sender<Arc<TaskRecord>>>,
    /// The zero of the clock that retention counts in.
    epoch: Instant,
    janitor: Mutex<Option<AbortHandle>>,
}

impl Shared {
    pub(super) fn new(limits: Limits, bus: SharedBus, runtime: Option<Handle>) -> Self {
        Self {
            table: Mutex::new(Table::new()),
            limits,
            bus,
            tracker: TaskTracker::new(),
            runtime,
            changes: OnceLock::new(),
            epoch: Instant::now(),
            janitor: Mutex::new(None),
        }
    }

    /// No user code runs under the lock, so a poisoned one holds a sound table.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table without what the retention has ended.
    pub(super) fn fresh_table(&self) -> MutexGuard<'_, Table> {
        let clock = self.clock();
        let mut table = self.table();
        table.expire(&self.limits, clock);
        table
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn runtime(&self) -> Option<Handle> {
        self.runtime.clone().or_else(|| Handle::try_current().ok())
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<TaskRecord>> {
        self.changes.get_or_init(|| broadcast::Sender::new(changes::CAPACITY)).subscribe()
    }

    /// Called with the table locked, so that the changes of a task are told in their order.
    pub(super) fn announce(&self, record: &TaskRecord) {
        if let Some(changes) = self.changes.get().filter(|changes| changes.receiver_count() > 0) {
            // An error says that the last receiver has just gone.
            let _ = changes.send(Arc::new(record.clone()));
        }
    }

    pub(super) fn request_stop(&self, scope: &Scope, id: TaskId) -> super::StopOutcome {
        let (outcome, token) = {
            let mut table = self.fresh_table();
            let (outcome, token) = table.request_stop(scope, id, SystemTime::now());
            if let Some(record) = token.as_ref().and_then(|_| table.get(scope, id)) {
                self.announce(record);
            }
            (outcome, token)
        };
        if let Some(token) = token {
            tracing::info!(task_id = %id, "background task asked to stop");
            token.cancel();
        }
        outcome
    }

    pub(super) fn request_stop_all(&self, scope: &Scope) -> usize {
        let stopping = {
            let mut table = self.fresh_table();
            let stopping = table.request_stop_all(scope, SystemTime::now());
            for (id, _) in &stopping {
                if let Some(record) = table.get(scope, *id) {
                    self.announce(record);
                }
            }
            stopping
        };
        for (id, token) in &stopping {
            tracing::info!(task_id = %id, "background task asked to stop with its session");
            token.cancel();
        }
        stopping.len()
    }

    pub(super) fn shutdown_tokens(&self) -> Vec<CancellationToken> {
        self.table().request_shutdown(SystemTime::now())
    }

    /// The one terminal transition; `None` if there was one already.
    pub(super) fn settle(self: &Arc<Self>, id: TaskId, settlement: Settlement) -> Option<TaskRecord> {
        let clock = self.clock();
        let (record, start_janitor) = {
            let mut table = self.table();
            let record = table.settle(&self.limits, id, settlement, SystemTime::now(), clock)?;
            self.announce(&record);
            let due = table.expire(&self.limits, clock);
            let start = due.is_some() && !table.janitor;
            table.janitor |= start;
            (record, start)
        };
        if start_janitor {
            self.start_janitor();
        }
        Some(record)
    }

    /// One task that sleeps until the oldest finished record is due, and ends when there is none.
    fn start_janitor(self: &Arc<Self>) {
        let Some(runtime) = self.runtime() else {
            self.table().janitor = false;
            return;
        };
        let janitor = runtime.spawn(Janitor { shared: Arc::downgrade(self), armed: true }.run());
        let mut slot = self.janitor.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(janitor.abort_handle());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let slot = self.janitor.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(janitor) = slot.take() {
            janitor.abort();
        }
    }
}

struct Janitor {
    shared: Weak<Shared>,
    /// It has not said itself that it ends.
    armed: bool,
}

impl Janitor {
    async fn run(mut self) {
        loop {
            let wait = {
                let Some(shared) = self.shared.upgrade() else { return };
                let clock = shared.clock();
                let mut table = shared.table();
                let Some(due) = table.expire(&shared.limits, clock) else {
                    table.janitor = false;
                    self.armed = false;
                    return;
                };
                Duration::from_millis(due - clock)
            };
            tokio::time::sleep(wait).await;
        }
    }
}

impl Drop for Janitor {
    /// A runtime that ends takes the janitor along; the next task that ends starts another.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.armed) {
            shared.table().janitor = false;
        }
    }
}
