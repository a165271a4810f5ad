//! What all handles, workers and listeners of one manager share.

use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::directory::{Mirror, Verdict};
use super::limits::Limits;
use super::table::{Locked, Place, StopCause, Stopping, Table};
use super::work::Running;
use super::{StopOutcome, changes};
use crate::bus::SharedBus;
use crate::task::{Scope, Settlement, TaskId, TaskRecord};
use crate::telemetry;

/// A task that has just ended.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) record: TaskRecord,
    /// Tells when other processes can see it; `None` if there are none.
    pub(super) published: Option<oneshot::Receiver<Verdict>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) limits: Limits,
    pub(super) bus: SharedBus,
    /// Told when nothing is active any more, once the table is closed.
    idle: Notify,
    /// What other processes should know; `None` if there are none.
    pub(super) mirror: Option<Mirror>,
    runtime: Option<Handle>,
    changes: OnceLock<broadcast::Sender<Arc<TaskRecord>>>,
    /// Held by the one who tells the changes; see [`Shared::tell_changes`].
    telling: Mutex<()>,
    /// Changes whenever a task should stop.
    stops: AtomicU32,
    /// The zero of the clock that retention counts in.
    epoch: Instant,
    janitor: Mutex<Option<AbortHandle>>,
}

impl Shared {
    pub(super) fn new(limits: Limits, bus: SharedBus, runtime: Option<Handle>) -> Self {
        let mirror = bus.is_shared().then(|| Mirror::new(&limits));
        Self {
            table: Mutex::new(Table::new()),
            mirror,
            limits,
            bus,
            idle: Notify::new(),
            runtime,
            changes: OnceLock::new(),
            telling: Mutex::new(()),
            stops: AtomicU32::new(0),
            epoch: Instant::now(),
            janitor: Mutex::new(None),
        }
    }

    pub(super) fn table(&self) -> Locked<'_> {
        Locked::new(&self.table)
    }

    /// The table without what the retention has ended.
    pub(super) fn fresh_table(&self) -> Locked<'_> {
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

    /// Whether anybody wants to know of changes, here or elsewhere.
    pub(super) fn is_watched(&self) -> bool {
        self.mirror.is_some() || self.changes.get().is_some_and(|changes| changes.receiver_count() > 0)
    }

    /// Notes a change, with the table locked so that changes keep their order.
    /// [`tell_changes`](Self::tell_changes) is to be called when the lock is gone.
    pub(super) fn announce(&self, table: &mut Table, record: &TaskRecord) {
        if self.changes.get().is_some_and(|changes| changes.receiver_count() > 0) {
            table.changes.push_back(Arc::new(record.clone()));
        }
    }

    /// Tells the changes that were noted. Telling runs the wakers of subscribers, and a waker may do anything, such as
    /// come back here: so nobody waits, and whoever is at it already tells these too.
    pub(super) fn tell_changes(&self) {
        let Some(changes) = self.changes.get() else { return };
        while !self.table().changes.is_empty() {
            let Ok(_telling) = self.telling.try_lock() else { return };
            loop {
                let Some(record) = self.table().changes.pop_front() else { break };
                // An error says that the last receiver has just gone.
                let _ = changes.send(record);
            }
        }
    }

    /// Cancels what was asked to stop, and tells of those that were not asked before.
    fn stop(&self, stopping: impl Iterator<Item = Stopping>) {
        self.tell_changes();
        // Before anybody is woken: who wakes looks whether this has changed.
        self.stops.fetch_add(1, Ordering::Release);
        for Stopping { record, alarm, first } in stopping {
            if first {
                tracing::info!(task_id = %record.id, "background task asked to stop");
            }
            alarm.ring();
        }
    }

    /// Whether the work of a task has to stop; see [`Table::must_stop`]. The worker
    /// notes what it has seen, so that asking costs no lock while nobody asks any task to stop.
    pub(super) fn must_stop(&self, place: Place, worker: &mut Running, waker: &Waker) -> bool {
        let stops = self.stops.load(Ordering::Acquire);
        if worker.looked && worker.stops == stops {
            return false;
        }
        worker.stops = stops;
        let first = !mem::replace(&mut worker.looked, true);
        self.table().must_stop(place, first.then_some(waker))
    }

    /// The token that the work of a task watches.
    pub(super) fn token_of(&self, place: Place) -> CancellationToken {
        // Others have ended it, when it has none any more.
        let (token, stopping) =
            self.table().token_of(place).unwrap_or_else(|| (CancellationToken::new(), true));
        if stopping {
            token.cancel();
        }
        token
    }

    pub(super) fn cancel_token_of(&self, place: Place) {
        let token = self.table().made_token_of(place);
        if let Some(token) = token {
            token.cancel();
        }
    }

    fn note_stops(&self, table: &mut Table, stopping: &[Stopping]) {
        for stopping in stopping.iter().filter(|stopping| stopping.first) {
            self.announce(table, &stopping.record);
            if let Some(mirror) = &self.mirror {
                mirror.update(&stopping.record);
            }
        }
    }

    pub(super) fn request_stop(&self, scope: &Scope, id: TaskId) -> StopOutcome {
        let (outcome, stopping) = {
            let mut table = self.fresh_table();
            let (outcome, stopping) = table.request_stop(scope, id, SystemTime::now());
            self.note_stops(&mut table, stopping.as_slice());
            (outcome, stopping)
        };
        self.stop(stopping.into_iter());
        outcome
    }

    pub(super) fn request_stop_all(&self, scope: &Scope) -> usize {
        let most = self.fresh_table().len_of(scope);
        // The memory comes before the lock.
        let mut running = Vec::with_capacity(most);
        running.extend(self.table().running_in(scope));
        self.stop_found(&running, StopCause::Request)
    }

    pub(super) fn request_shutdown(&self) {
        let mut running = Vec::with_capacity(self.table().running());
        running.extend(self.table().all_running());
        self.stop_found(&running, StopCause::Shutdown);
    }

    /// Asks tasks to stop, some at a time so that nobody waits long for the lock, and says how many still ran.
    fn stop_found(&self, found: &[Place], cause: StopCause) -> usize {
        const BATCH: usize = 64;
        let now = SystemTime::now();
        let mut count = 0;
        let mut stopping = Vec::with_capacity(found.len().min(BATCH));
        for batch in found.chunks(BATCH) {
            {
                let mut table = self.table();
                stopping.extend(batch.iter().filter_map(|&task| table.stop_found(task, cause, now)));
                self.note_stops(&mut table, &stopping);
            }
            count += stopping.len();
            self.stop(stopping.drain(..));
        }
        count
    }

    /// A task has run for as long as it may.
    pub(super) fn reach_limit(&self, place: Place) {
        self.stop_found(&[place], StopCause::RunTime);
    }

    /// The one terminal transition; `None` if there was one already. A result that is `to_deliver` counts as running
    /// until [`delivered`](Self::delivered).
    pub(super) fn settle(
        self: &Arc<Self>,
        place: Place,
        settlement: Settlement,
        to_deliver: bool,
    ) -> Option<Settled> {
        let clock = self.clock();
        let (ending, published, start_janitor, idle) = {
            let mut table = self.table();
            table.expire(&self.limits, clock);
            let ending = table.settle(&self.limits, place, settlement, SystemTime::now(), clock)?;
            self.announce(&mut table, &ending.record);
            let published = self.mirror.as_ref().map(|mirror| mirror.end(&ending.record));
            table.delivering += usize::from(to_deliver);
            let start = self.limits.retain_for.is_some() && table.retained() > 0 && !table.janitor;
            table.janitor |= start;
            (ending, published, start, table.is_over())
        };
        self.tell_changes();
        let record = ending.tell();
        if start_janitor {
            self.start_janitor();
        }
        telemetry::settled(record.status);
        self.tell_idle(idle);
        Some(Settled { record, published })
    }

    /// Another process has taken this one for dead and has ended a task that runs here, or was about to end: as the
    /// others see it, it is seen here from now on.
    pub(super) fn adopt(self: &Arc<Self>, found: &TaskRecord) {
        let clock = self.clock();
        let (ending, alarm) = {
            let mut table = self.table();
            let Some((ending, alarm)) = table.adopt(&self.limits, found, clock) else { return };
            self.announce(&mut table, &ending.record);
            // Until its work is gone.
            table.delivering += 1;
            (ending, alarm)
        };
        tracing::warn!(task_id = %found.id, "background task was taken for lost, and is stopped");
        self.tell_changes();
        ending.tell();
        self.stops.fetch_add(1, Ordering::Release);
        alarm.ring();
        telemetry::settled(found.status);
    }

    /// A delivery has ended, well or not.
    pub(super) fn delivered(&self, well: bool) {
        let idle = {
            let mut table = self.table();
            table.delivering -= 1;
            table.counters.undelivered += u64::from(!well);
            table.is_over()
        };
        self.tell_idle(idle);
    }

    /// Takes a task out that never ran.
    pub(super) fn roll_back(&self, place: Place) {
        let (never_ran, idle) = {
            let mut table = self.table();
            (table.roll_back(place), table.is_over())
        };
        // Without the lock: it tells those who wait for the task.
        drop(never_ran);
        self.tell_idle(idle);
    }

    /// Tells a shutdown that there is nothing left to wait for.
    fn tell_idle(&self, idle: bool) {
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing is active any more.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.table().active() == 0 {
                return;
            }
            idle.await;
        }
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
                Duration::from_millis(due.saturating_sub(clock))
            };
            if wait.is_zero() {
                // More is due than one batch.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(wait).await;
            }
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
