//! Renews the lease of this process, and writes what has changed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::bus::{self, BusError, SharedBus, TaskCheck, TaskWrite, TaskWritten};
use crate::manager::mirror::{DecidedEnd, Mirror, Unlisted};
use crate::manager::shared::{BoxedLoop, Shared};
use crate::panics;
use crate::task::{Scope, TaskId, TaskRecord};

/// Writes in one round trip.
const MOST: usize = 256;
/// By so many a batch grows after an attempt that has succeeded. A bus that is too slow for a large batch is not asked
/// for one again at once: each failure costs a whole timeout.
const GROWTH: usize = 16;
/// Entries that are removed from the lists of their sessions between two writes.
const UNLISTED: usize = 16;
/// Tasks that are looked up in one round trip.
const CHECKED: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Runs until the manager is gone. What is to be written is in the mirror, so that another keeper goes on with it.
pub(in crate::manager) fn run(shared: Weak<Shared>) -> BoxedLoop {
    Box::pin(async move {
        let keeper = shared.upgrade().map(|shared| Keeper::new(&shared));
        if let Some(keeper) = keeper {
            keeper.run().await;
        }
    })
}

struct Keeper {
    shared: Weak<Shared>,
    bus: SharedBus,
    /// So many tasks in one write: fewer after an attempt that failed, because a bus may be too slow for many.
    batch: usize,
    retry: Duration,
    renew_at: Instant,
    /// When to look up the tasks, once in a lease: a cancel whose message was lost is found then.
    check_at: Instant,
    /// Those that are still to be looked up.
    unchecked: Vec<TaskId>,
}

impl Keeper {
    fn new(shared: &Arc<Shared>) -> Self {
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

    async fn run(mut self) {
        loop {
            let Some(shared) = self.shared.upgrade() else { return };
            let Some(mirror) = &shared.mirror else { return };
            let batch = self.next_batch(mirror);
            let write = !batch.is_empty() || Instant::now() >= self.renew_at;
            let unlist = mirror.state().has_unlisted();
            if !write && self.unchecked.is_empty() && !unlist {
                let changed = Arc::clone(&mirror.changed);
                // While it waits it keeps no manager alive.
                drop(shared);
                let _ = timeout_at(self.renew_at, changed.notified()).await;
                continue;
            }
            // One round trip of each kind in turn, so that looking up many tasks does not delay the renewal of the lease.
            let mut done = Ok(());
            if write {
                done = self.write(mirror, &shared, &batch).await;
            }
            if done.is_ok() {
                done = self.check(mirror, &shared).await;
            }
            if done.is_ok() {
                // However slow the bus is, the lease comes first.
                let _ = timeout_at(self.renew_at, self.unlist(mirror)).await;
            }
            match done {
                Ok(()) => {
                    if std::mem::replace(&mut self.retry, FIRST_RETRY) != FIRST_RETRY {
                        panics::quietly(|| tracing::info!("the directory of tasks can be written again"));
                    }
                }
                Err(error) => {
                    let (waiting, _) = mirror.waiting();
                    drop(shared);
                    self.report(&error, waiting);
                    sleep(self.retry).await;
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn next_batch(&mut self, mirror: &Mirror) -> Vec<TaskWrite> {
        let mut state = mirror.state();
        if std::mem::take(&mut state.check) {
            self.unchecked = state.tasks.keys().copied().collect();
        }
        state.take(mirror.owner(), self.batch)
    }

    /// Logs a failure. While the bus is away this is called every second.
    fn report(&self, error: &BusError, waiting: usize) {
        let error = error as &dyn std::error::Error;
        panics::quietly(|| {
            if self.retry < LAST_RETRY {
                tracing::warn!(error, waiting, "the directory of tasks cannot be written; trying again");
            } else {
                tracing::debug!(error, waiting, "the directory of tasks still cannot be written");
            }
        });
    }

    /// Renews the lease and writes a batch.
    async fn write(&mut self, mirror: &Mirror, shared: &Arc<Shared>, batch: &[TaskWrite]) -> bus::Result<()> {
        let asked = Instant::now();
        let mut attempt = Attempt { mirror, batch, failed: true };
        let write = async { self.bus.write(&mirror.lease, &mirror.retention, batch).await };
        let written = bus::caught("write to the directory", write).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.batch = (self.batch / 2).max(1);
                // The bus may have made the write, and its answer, which says that the lease had ended, may be lost.
                mirror.state().check = true;
                return Err(error);
            }
        };
        attempt.failed = false;
        self.batch = (self.batch + GROWTH).min(MOST);
        self.renew_at = asked + mirror.ttl() / 3;
        let (mut published, mut lost) = (Vec::new(), Vec::new());
        {
            let mut state = mirror.state();
            for (write, outcome) in batch.iter().zip(written.tasks) {
                match outcome {
                    TaskWritten::Written { position } => {
                        published.extend(state.written(write, Some(position)));
                    }
                    TaskWritten::Refused { found: Some(found) } => {
                        lost.push((state.lost(write.record.id), found.record));
                    }
                    // Another program has put something in its place that no process can read. So no process has seen
                    // another end, and the task goes on here as if it had been written.
                    TaskWritten::Refused { found: None } => published.extend(state.written(write, None)),
                }
            }
            if written.lease_had_ended || asked >= self.check_at {
                state.check = true;
                self.check_at = asked + mirror.ttl();
            }
        }
        // No await from here on: the mirror does not have these tasks any more, so that no later keeper would end them.
        for ended in published {
            shared.publish(ended.id);
            ended.tell();
        }
        for (ended, found) in lost {
            fenced(shared, mirror, ended, &found);
        }
        Ok(())
    }

    /// Looks up some of the running tasks: a stop may have been asked for, or another process may have declared them lost.
    async fn check(&mut self, mirror: &Mirror, shared: &Arc<Shared>) -> bus::Result<()> {
        let some = self.unchecked.split_off(self.unchecked.len().saturating_sub(CHECKED));
        let running: Vec<Arc<TaskRecord>> = {
            let state = mirror.state();
            let tasks = some.iter().filter_map(|id| state.tasks.get(id));
            let written = tasks.filter(|task| task.written > 0 && !task.record.status.is_terminal());
            written.map(|task| Arc::clone(&task.record)).collect()
        };
        let check = async { self.bus.check(mirror.owner(), &running).await };
        let checks = match bus::caught("check the tasks in the directory", check).await {
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
                    mirror.wake_keeper();
                }
                TaskCheck::Lost(found) => {
                    let ended = lost(mirror, record.id);
                    fenced(shared, mirror, ended, &found.record);
                }
            }
        }
        Ok(())
    }

    /// Removes fenced tasks from the lists of their sessions. What cannot be removed stays listed until the list expires.
    async fn unlist(&self, mirror: &Mirror) {
        for _ in 0..UNLISTED {
            let Some(Unlisted { list, id }) = mirror.state().next_unlisted() else { return };
            let remove = async { self.bus.remove(&list, &id.to_string()).await };
            if let Err(error) = bus::caught("remove a task from its session", remove).await {
                panics::quietly(|| {
                    tracing::debug!(%error, task_id = %id, "a lost task stays listed in its session for now");
                });
            }
        }
    }
}

impl Drop for Keeper {
    /// The runtime may have ended in between: the next keeper looks all tasks up again.
    fn drop(&mut self) {
        if self.unchecked.is_empty() {
            return;
        }
        if let Some(shared) = self.shared.upgrade()
            && let Some(mirror) = &shared.mirror
        {
            mirror.state().check = true;
        }
    }
}

/// Another process has taken this one for dead and has ended its task. That end stays.
///
/// It does not wait for the bus: the mirror has no entry of the task any more, so that a keeper that was dropped in between
/// would leave the task `running` for ever.
fn fenced(shared: &Shared, mirror: &Mirror, ended: Option<DecidedEnd>, record: &TaskRecord) {
    shared.adopt(record);
    if let Some(ended) = ended {
        ended.tell();
    }
    // Writing it again may have put the task on the list of its session.
    let list = bus::keys::background_tasks(record.meta.session_id());
    mirror.state().unlist(Unlisted { list, id: record.id });
}

fn lost(mirror: &Mirror, id: TaskId) -> Option<DecidedEnd> {
    mirror.state().lost(id)
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
