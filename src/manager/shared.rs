//! What all handles, workers and helpers of one manager share, and the one step that tells what has changed.
//!
//! Every transition has the same shape: with the table locked it changes the state and notes its [`News`]; then the lock
//! is released; then [`Shared::tell`] tells the news. Telling runs user code (wakers, recorders, `tracing` subscribers),
//! which may panic, block, or call back into the manager: by then the state is safe and no lock is held.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::changes;
use super::helper::Helper;
use super::limits::Limits;
use super::log_limits::LogLimits;
use super::mirror::{Mirror, VerdictReceiver};
use super::runtimes::Runtimes;
use super::table::{Audience, Ending, Locked, Place, Settled, Table};
use crate::bus::SharedBus;
use crate::panics;
use crate::task::{Settlement, TaskId, TaskRecord};
use crate::telemetry;

/// What a transition has to tell when the lock is gone.
#[derive(Debug, Default)]
#[must_use = "news that is not told leaves others waiting"]
pub(super) struct News {
    /// A task has ended, for every reader.
    pub(super) ending: Option<Ending>,
    /// Records that have passed their time are to be dropped when nothing reads them.
    start_janitor: bool,
    /// Nothing is active any more, and a shutdown waits for that.
    is_over: bool,
    /// There is something to write for other processes.
    to_write: bool,
}

impl News {
    /// A task that runs has changed. If `to_write`, the mirror was told.
    pub(super) fn of_change(to_write: bool) -> Self {
        Self { to_write, ..Self::default() }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) limits: Limits,
    pub(super) bus: SharedBus,
    /// Notified when nothing is active any more, once the table is closed.
    idle: Notify,
    /// What other processes should know; `None` if there are none.
    pub(super) mirror: Option<Mirror>,
    runtimes: Arc<Runtimes>,
    changes: OnceLock<broadcast::Sender<Arc<TaskRecord>>>,
    /// Held by the thread that sends the changes; see [`Shared::tell_changes`].
    telling: Mutex<()>,
    /// Of log lines that one client can cause at will.
    pub(super) log_limits: LogLimits,
    /// Grows whenever a task should stop.
    pub(super) stops: AtomicU32,
    /// Notified by a shutdown that has waited long enough for the deliveries that are under way.
    pub(super) give_up: Notify,
    /// The zero of the clock that retention counts in.
    epoch: Instant,
    /// Drops the records whose time has passed when nothing reads them.
    janitor: Helper,
    /// Renews the lease of this process and writes what has changed; used if there are other processes.
    pub(super) keeper: Helper,
    /// Tells the sessions of lost tasks.
    pub(super) executor: Helper,
}

/// The loops of a manager, which are further up the house.
pub(super) struct Loops {
    pub(super) janitor: fn(Weak<Shared>) -> BoxedLoop,
    pub(super) keeper: fn(Weak<Shared>) -> BoxedLoop,
    pub(super) executor: fn(Weak<Shared>) -> BoxedLoop,
}

pub(super) type BoxedLoop = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Shared {
    pub(super) fn new(limits: Limits, bus: SharedBus, runtime: Option<Handle>, loops: &Loops) -> Arc<Self> {
        let mirror = bus.is_shared().then(|| Mirror::new(&limits));
        let runtimes = Arc::new(Runtimes::new(runtime));
        Arc::new_cyclic(|shared: &Weak<Self>| {
            let helper = |run: fn(Weak<Self>) -> BoxedLoop| {
                let shared = Weak::clone(shared);
                Helper::new(Arc::clone(&runtimes), move || {
                    (shared.strong_count() > 0).then(|| run(Weak::clone(&shared)))
                })
            };
            let (janitor, keeper, executor) =
                (helper(loops.janitor), helper(loops.keeper), helper(loops.executor));
            Self {
                table: Mutex::new(Table::new()),
                mirror,
                limits,
                bus,
                idle: Notify::new(),
                runtimes,
                changes: OnceLock::new(),
                telling: Mutex::new(()),
                log_limits: LogLimits::new(),
                stops: AtomicU32::new(0),
                give_up: Notify::new(),
                epoch: Instant::now(),
                janitor,
                keeper,
                executor,
            }
        })
    }

    pub(super) fn table(&self) -> Locked<'_> {
        Locked::new(&self.table)
    }

    /// The table without the records whose time has passed.
    pub(super) fn fresh_table(&self) -> Locked<'_> {
        let clock = self.clock();
        loop {
            let mut table = self.table();
            // One batch at a time, so that others get the lock in between.
            if table.expire(&self.limits, clock).is_none_or(|due| due > clock) {
                return table;
            }
        }
    }

    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The runtime that a new task runs on.
    pub(super) fn runtime(&self) -> Option<Handle> {
        self.runtimes.for_tasks()
    }

    /// The runtimes that a [`Helper`] of another part can run on.
    pub(super) const fn runtimes(&self) -> &Arc<Runtimes> {
        &self.runtimes
    }

    /// The mirror, with its helpers running if there is a runtime: every entry point that needs what they do comes here.
    pub(super) fn mirror(&self) -> Option<&Mirror> {
        let mirror = self.mirror.as_ref()?;
        self.keeper.start();
        if mirror.has_wills() {
            self.executor.start();
        }
        Some(mirror)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<TaskRecord>> {
        self.changes.get_or_init(|| broadcast::Sender::new(changes::CAPACITY)).subscribe()
    }

    /// Whether a subscriber or another process wants to know of changes.
    pub(super) fn is_watched(&self) -> bool {
        self.mirror.is_some() || self.has_subscribers()
    }

    fn has_subscribers(&self) -> bool {
        self.changes.get().is_some_and(|changes| changes.receiver_count() > 0)
    }

    /// Notes a change for subscribers, with the table locked so that changes keep their order.
    pub(super) fn announce(&self, table: &mut Table, record: &TaskRecord) {
        if self.has_subscribers() {
            table.changes.push_back(Arc::new(record.clone()));
        }
    }

    /// Tells what a transition has noted. Each part is told, whatever another part does.
    pub(super) fn tell(&self, news: &News) {
        if news.is_over {
            // A shutdown waits with a waker that does not panic.
            self.idle.notify_waiters();
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|_| news.to_write) {
            self.keeper.start();
            mirror.wake_keeper();
        }
        if news.start_janitor {
            self.janitor.start();
        }
        self.tell_changes();
        if let Some(ending) = &news.ending {
            ending.tell_waiters();
            panics::quietly(|| telemetry::settled(ending.record.status));
        }
    }

    /// Sends the changes that were noted. Subscribers wait with wakers that do not panic, but a waker may do anything
    /// else, such as call back into here: so no thread waits for another one, and the thread that sends already sends
    /// these too.
    pub(super) fn tell_changes(&self) {
        let Some(changes) = self.changes.get() else { return };
        while self.has_changes() {
            let _telling = match self.telling.try_lock() {
                Ok(telling) => telling,
                Err(TryLockError::Poisoned(telling)) => telling.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(record) = self.next_change() {
                // An error says that the last receiver has just gone.
                let _ = changes.send(record);
            }
        }
    }

    fn has_changes(&self) -> bool {
        !self.table().changes.is_empty()
    }

    fn next_change(&self) -> Option<Arc<TaskRecord>> {
        self.table().changes.pop_front()
    }

    /// Ends a task. `None`: it had ended already.
    ///
    /// On one process the end counts at once. Where other processes share the view it counts when they can see it:
    /// [`publish`](Self::publish) does the rest then, and until then the task reads `running`.
    pub(super) fn settle(
        &self,
        place: Place,
        settlement: Settlement,
        to_deliver: bool,
    ) -> Option<(TaskRecord, Option<VerdictReceiver>)> {
        let clock = self.clock();
        let audience = Audience { is_shared: self.mirror.is_some(), to_deliver };
        let (unpublished, news) = {
            let mut table = self.table();
            table.expire(&self.limits, clock);
            let times = (SystemTime::now(), clock);
            match table.settle(&self.limits, place, settlement, audience, times)? {
                Settled::Ended(ending) => (None, self.note_end(&mut table, ending)),
                Settled::Unpublished(record) => {
                    let verdict = self.mirror.as_ref().map(|mirror| mirror.end(&record));
                    (Some((record, verdict)), News::of_change(true))
                }
            }
        };
        self.tell(&news);
        unpublished.or_else(|| news.ending.map(|ending| (ending.record, None)))
    }

    /// The end of a task can be seen by other processes: it counts here too, and is told.
    pub(super) fn publish(&self, id: TaskId) {
        let clock = self.clock();
        let news = {
            let mut table = self.table();
            let Some(ending) = table.publish(&self.limits, id, clock) else { return };
            self.note_end(&mut table, ending)
        };
        self.tell(&news);
    }

    /// Another process has taken this one for dead and has ended a task that runs here, or was about to end. That end
    /// counts here too.
    pub(super) fn adopt(&self, found: &TaskRecord) {
        let clock = self.clock();
        // A record that still runs, elsewhere, is no end.
        let ended = (!found.status.is_terminal()).then(|| found.lost(SystemTime::now()));
        let (news, alarm) = {
            let mut table = self.table();
            let Some((ending, alarm)) = table.adopt(&self.limits, ended.as_ref().unwrap_or(found), clock)
            else {
                return;
            };
            let news = self.note_end(&mut table, ending);
            self.stops.fetch_add(1, Ordering::Release);
            (news, alarm)
        };
        drop(alarm);
        self.tell(&news);
        panics::quietly(|| {
            tracing::warn!(task_id = %found.id, "background task was taken for lost by another process");
        });
    }

    /// Notes what there is to tell of an end.
    fn note_end(&self, table: &mut Table, ending: Ending) -> News {
        self.announce(table, &ending.record);
        let start_janitor = self.limits.retain_for.is_some() && table.retained() > 0;
        News { start_janitor, is_over: table.is_over(), ending: Some(ending), to_write: false }
    }

    /// A delivery is over, well or not; or the work of a task that others have ended is gone.
    pub(super) fn delivered(&self, place: Place, well: bool) {
        let news = {
            let mut table = self.table();
            table.delivered(place, well);
            News { is_over: table.is_over(), ..News::default() }
        };
        self.tell(&news);
    }

    /// Takes a task out that never ran.
    pub(super) fn roll_back(&self, place: Place) {
        let (never_ran, news) = {
            let mut table = self.table();
            let never_ran = table.roll_back(place);
            (never_ran, News { is_over: table.is_over(), ..News::default() })
        };
        // Without the lock: dropping it tells those who wait for the task.
        drop(never_ran);
        self.tell(&news);
    }

    /// Waits until nothing is active any more.
    pub(super) async fn idle(&self) {
        panics::with_quiet_waker(async {
            loop {
                let mut idle = pin!(self.idle.notified());
                idle.as_mut().enable();
                if self.active() == 0 {
                    return;
                }
                idle.await;
            }
        })
        .await;
    }

    fn active(&self) -> usize {
        self.table().active()
    }

    /// How many ended tasks have a result that is not delivered.
    pub(super) fn waiting_results(&self) -> usize {
        let table = self.table();
        table.delivering() + table.unpublished().deliveries
    }
}
