//! What all handles, workers and helpers of one manager share.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, Sleep};

use super::changes::{self, Change};
use super::limits::Limits;
use super::log_limits::LogLimits;
use super::mirror::Mirror;
use super::table::{Locked, Table};
use crate::bus::SharedBus;
use crate::helper::{Helper, Runtimes};
use crate::panics;

/// How often other runtimes look whether a loop still runs where it is.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// Reads answer no expired record, however late the janitor is.
const JANITOR_PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    pub(super) limits: Limits,
    pub(super) bus: SharedBus,
    /// Notified when nothing is active any more, once the table is closed.
    pub(super) idle: Notify,
    /// What other processes should know; `None` if there are none.
    pub(super) mirror: Option<Mirror>,
    runtimes: Arc<Runtimes>,
    pub(super) changes: OnceLock<broadcast::Sender<Change>>,
    /// Held by the thread that sends the changes; see [`Shared::tell_changes`].
    pub(super) telling: Mutex<()>,
    /// Of log lines that one client can cause at will.
    pub(super) log_limits: LogLimits,
    /// Grows whenever a task should stop.
    pub(super) stops: AtomicU32,
    /// Notified by a shutdown that has waited long enough for the deliveries that are under way.
    pub(super) give_up: Notify,
    /// The zero of the clock that retention counts in.
    epoch: Instant,
    /// Drops the records whose time has passed, also when no caller reads them.
    pub(super) janitor: Helper,
    /// Renews the lease of this process and writes what has changed; used if there are other processes.
    pub(super) keeper: Helper,
    /// Tells the sessions of lost tasks.
    pub(super) will_teller: Helper,
}

/// The loops of a manager, which are further up the house.
pub(super) struct Loops {
    pub(super) janitor: fn(Weak<Shared>) -> BoxedLoop,
    pub(super) keeper: fn(Weak<Shared>) -> BoxedLoop,
    pub(super) will_teller: fn(Weak<Shared>) -> BoxedLoop,
}

pub(super) type BoxedLoop = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Shared {
    pub(super) fn new(limits: Limits, bus: SharedBus, runtime: Option<Handle>, loops: &Loops) -> Arc<Self> {
        let mirror = bus.is_shared().then(|| Mirror::new(&limits));
        let runtimes = Arc::new(Runtimes::new(runtime));
        Arc::new_cyclic(|shared: &Weak<Self>| {
            let helper = |period: Duration, run: fn(Weak<Self>) -> BoxedLoop| {
                let shared = Weak::clone(shared);
                Helper::new(Arc::clone(&runtimes), period, move || {
                    (shared.strong_count() > 0).then(|| run(Weak::clone(&shared)))
                })
            };
            // On a runtime that stands still the keeper is found out before the lease ends, which it renews in thirds.
            let keeper = helper((limits.lease / 8).min(PERIOD), loops.keeper);
            let (janitor, will_teller) =
                (helper(JANITOR_PERIOD, loops.janitor), helper(PERIOD, loops.will_teller));
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
                will_teller,
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

    /// A timer of the current runtime; `None` if that has no time driver.
    pub(super) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        self.runtimes.sleep(duration)
    }

    /// The mirror, with its helpers running if there is a runtime: every entry point that needs what they do comes here.
    pub(super) fn mirror(&self) -> Option<&Mirror> {
        let mirror = self.mirror.as_ref()?;
        self.runtimes.remember_current();
        self.keeper.start();
        if mirror.has_wills() {
            self.will_teller.start();
        }
        Some(mirror)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.runtimes.remember_current();
        self.changes.get_or_init(|| broadcast::Sender::new(changes::CAPACITY)).subscribe()
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
