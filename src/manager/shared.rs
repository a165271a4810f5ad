//! What all handles, workers and listeners of one manager share.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::changes;
use super::deliver::Delivering;
use super::directory::{Mirror, Verdict};
use super::limits::Limits;
use super::table::{Locked, Place, Table};
use crate::bus::SharedBus;
use crate::task::{Settlement, TaskRecord};
use crate::telemetry;

/// A task that has just ended.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) record: TaskRecord,
    /// Tells when other processes can see it; `None` if there are none.
    pub(super) published: Option<oneshot::Receiver<Verdict>>,
    /// If it is to be delivered.
    pub(super) delivering: Option<Delivering>,
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
    pub(super) stops: AtomicU32,
    /// The zero of the clock that retention counts in.
    epoch: Instant,
    pub(super) janitor: Mutex<Option<AbortHandle>>,
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

    pub(super) fn clock(&self) -> u64 {
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
            let _telling = match self.telling.try_lock() {
                Ok(telling) => telling,
                // A waker has panicked. The others are to hear all the same.
                Err(TryLockError::Poisoned(telling)) => telling.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            loop {
                let Some(record) = self.table().changes.pop_front() else { break };
                // An error says that the last receiver has just gone.
                let _ = changes.send(record);
            }
        }
    }

    /// The one terminal transition; `None` if there was one already. A result that is `to_deliver` counts as running
    /// until [`delivered`](Self::delivered).
    pub(super) fn settle(
        self: &Arc<Self>,
        place: Place,
        settlement: Settlement,
        to_deliver: bool,
    ) -> Option<Settled> {
        // User code, so before the lock.
        let settlement = self.limits.redactor.settlement(settlement);
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
        // What tells others may panic: by then nothing depends on it any more.
        let delivering = to_deliver.then(|| Delivering::new(Arc::clone(self), place.id));
        if start_janitor {
            self.start_janitor();
        }
        self.tell_idle(idle);
        self.tell_changes();
        let record = ending.tell();
        telemetry::settled(record.status);
        Some(Settled { record, published, delivering })
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
            self.stops.fetch_add(1, Ordering::Release);
            (ending, alarm)
        };
        tracing::warn!(task_id = %found.id, "background task was taken for lost, and is stopped");
        self.tell_changes();
        ending.tell();
        drop(alarm);
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
}

impl Drop for Shared {
    fn drop(&mut self) {
        let slot = self.janitor.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(janitor) = slot.take() {
            janitor.abort();
        }
    }
}
