//! Keeps the lease, and writes what has changed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Mirror;
use crate::bus::{self, BusError, SharedBus, StoredTask, TaskCheck, TaskWrite, TaskWritten};
use crate::manager::shared::Shared;
use crate::task::{Scope, TaskId, TaskRecord};

/// Writes in one round trip.
const MOST: usize = 256;
/// By so many a batch grows when an attempt has succeeded. A bus that is too slow for many is not asked at once for as
/// many as it has just failed at: that costs a whole timeout.
const GROWTH: usize = 16;
/// Tasks that are looked after in one round trip.
const CHECKED: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    shared: Weak<Shared>,
    bus: SharedBus,
    /// So many at once: fewer after an attempt that failed, because a bus may be too slow for many.
    batch: usize,
    retry: Duration,
    renew_at: Instant,
    /// When to look after the tasks, once in a lease: a cancel that nobody heard is found then.
    check_at: Instant,
    /// Those that it still has to look after.
    unchecked: Vec<TaskId>,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared: Arc::downgrade(shared),
            bus: Arc::clone(&shared.bus),
            batch: MOST,
            retry: FIRST_RETRY,
            renew_at: now,
            check_at: now + shared.limits.lease,
            unchecked: Vec::new(),
        }
    }

    /// Ends with the manager.
    pub(super) async fn run(mut self) {
        loop {
            let Some(shared) = self.shared.upgrade() else { return };
            let Some(mirror) = &shared.mirror else { return };
            let batch = {
                let mut state = mirror.state();
                if std::mem::take(&mut state.check) {
                    self.unchecked = state.tasks.keys().copied().collect();
                }
                state.take(mirror.owner(), self.batch)
            };
            let write = !batch.is_empty() || Instant::now() >= self.renew_at;
            if !write && self.unchecked.is_empty() {
                let changed = Arc::clone(&mirror.changed);
                // Waiting keeps no manager alive.
                drop(shared);
                let _ = timeout_at(self.renew_at, changed.notified()).await;
                continue;
            }
            // One round trip of each kind in turn, so that looking after many does not keep the lease from being renewed.
            let mut done = Ok(());
            if write {
                done = self.write(mirror, &shared, &batch).await;
            }
            if done.is_ok() {
                done = self.check(mirror, &shared).await;
            }
            match done {
                Ok(()) => {
                    if std::mem::replace(&mut self.retry, FIRST_RETRY) != FIRST_RETRY {
                        tracing::info!("the directory of tasks can be written again");
                    }
                }
                Err(error) => {
                    self.report(&error, mirror.state().waiting);
                    drop(shared);
                    sleep(self.retry).await;
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// As long as the bus is away this comes every second.
    fn report(&self, error: &BusError, waiting: usize) {
        let error = error as &dyn std::error::Error;
        if self.retry < LAST_RETRY {
            tracing::warn!(error, waiting, "the directory of tasks cannot be written; trying again");
        } else {
            tracing::debug!(error, waiting, "the directory of tasks still cannot be written");
        }
    }

    /// Renews the lease and writes a batch.
    async fn write(&mut self, mirror: &Mirror, shared: &Arc<Shared>, batch: &[TaskWrite]) -> bus::Result<()> {
        let asked = Instant::now();
        let mut attempt = Attempt { mirror, batch, failed: true };
        let written = self.bus.write(&mirror.lease, &mirror.retention, batch).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.batch = (self.batch / 2).max(1);
                // It may have been made, and its answer be lost that says that the lease had ended.
                mirror.state().check = true;
                return Err(error);
            }
        };
        attempt.failed = false;
        self.batch = (self.batch + GROWTH).min(MOST);
        self.renew_at = asked + mirror.ttl() / 3;
        let mut lost = Vec::new();
        {
            let mut state = mirror.state();
            for (write, outcome) in batch.iter().zip(written.tasks) {
                match outcome {
                    TaskWritten::Written { position } => state.written(write, position),
                    TaskWritten::Refused { found } => {
                        state.lost(write.record.id);
                        lost.extend(found);
                    }
                }
            }
            if written.lease_had_ended || asked >= self.check_at {
                state.check = true;
                self.check_at = asked + mirror.ttl();
            }
        }
        for found in lost {
            self.fenced(shared, &found).await;
        }
        Ok(())
    }

    /// Looks what became of some of the running tasks: whether somebody wants them to stop, or has taken them for lost.
    async fn check(&mut self, mirror: &Mirror, shared: &Arc<Shared>) -> bus::Result<()> {
        let some = self.unchecked.split_off(self.unchecked.len().saturating_sub(CHECKED));
        let running: Vec<Arc<TaskRecord>> = {
            let state = mirror.state();
            let tasks = some.iter().filter_map(|id| state.tasks.get(id));
            let written = tasks.filter(|task| task.written > 0 && !task.record.status.is_terminal());
            written.map(|task| Arc::clone(&task.record)).collect()
        };
        let checks = match self.bus.check(mirror.owner(), &running).await {
            Ok(checks) => checks,
            Err(error) => {
                self.unchecked.extend(some);
                return Err(error);
            }
        };
        for (record, check) in running.iter().zip(checks) {
            match check {
                TaskCheck::Held => {}
                TaskCheck::StopRequested(_) => {
                    let meta = &record.meta;
                    let scope = Scope::user(meta.user_id()).in_session(meta.session_id());
                    shared.request_stop(&scope, record.id);
                }
                TaskCheck::Missing => {
                    mirror.state().forgotten(record.id);
                    mirror.changed.notify_one();
                }
                TaskCheck::Lost(found) => {
                    mirror.state().lost(record.id);
                    self.fenced(shared, &found).await;
                }
            }
        }
        Ok(())
    }

    /// This process was taken for dead, and its task for lost. That stays so.
    async fn fenced(&self, shared: &Arc<Shared>, found: &StoredTask) {
        shared.adopt(&found.record);
        // Writing it again may have put the task on the list of its session.
        if let Err(error) = self
            .bus
            .remove(
                &bus::keys::background_tasks(found.record.meta.session_id()),
                &found.record.id.to_string(),
            )
            .await
        {
            tracing::debug!(%error, task_id = %found.record.id, "a lost task stays listed in its session for now");
        }
    }
}

/// A batch on its way. Should the attempt fail or be dropped it is written again.
struct Attempt<'a> {
    mirror: &'a Mirror,
    batch: &'a [TaskWrite],
    failed: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.mirror.state().give_back(self.batch);
        }
    }
}

impl Drop for Keeper {
    /// A runtime that ends takes the keeper along; the next task starts another.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade()
            && let Some(mirror) = &shared.mirror
        {
            mirror.state().keeping = false;
        }
    }
}
