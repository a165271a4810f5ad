use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lanes::{Lanes, State};
use crate::panics;

/// The calls of a layer that wait, behind one lock, which is held for a few words only.
///
/// No user code runs under the lock, and wakers are user code: to clone one, to drop one, to wake one.
pub(super) struct Queue {
    /// The timeout of the layer. Calls with it are in linked lanes.
    usual: Duration,
    lanes: Mutex<Lanes>,
}

/// A place that a call has taken.
pub(super) struct Joined {
    pub(super) place: u32,
    /// A new lane, which needs a janitor.
    pub(super) opened: Option<Opened>,
}

pub(super) struct Opened {
    pub(super) lane: u32,
    /// Notified when the janitor has to look at the lane earlier than it plans.
    pub(super) notify: Arc<Notify>,
}

/// What a call finds.
pub(super) enum Look {
    Waits,
    /// The deadline has come, and the place is free.
    Due,
    /// The lane was closed before the deadline, so that no task will wake the call, and the place is free.
    Stranded(Instant),
}

/// What a janitor does next.
pub(super) enum Next {
    /// Ask again.
    More,
    /// Sleep.
    At(Instant),
    /// End. No call waits, and the lane is closed.
    Closed,
}

impl Queue {
    pub(super) const fn new(usual: Duration) -> Self {
        Self { usual, lanes: Mutex::new(Lanes::new()) }
    }

    #[inline]
    pub(super) fn is_usual(&self, timeout: Duration) -> bool {
        self.usual == timeout
    }

    /// Nothing under the lock panics, so a poisoned lock holds sound lanes.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the linked lane of the runtime. Without such a lane the waker comes back.
    #[inline]
    pub(super) fn join(&self, runtime: runtime::Id, deadline: Instant, waker: Waker) -> Result<u32, Waker> {
        let mut lanes = self.lock();
        match lanes.linked(runtime) {
            Some(end) => Ok(lanes.push(end, deadline, waker)),
            None => Err(waker),
        }
    }

    /// Takes a place in the linked lane of the runtime, which is opened if there is none.
    pub(super) fn open(&self, runtime: runtime::Id, deadline: Instant, waker: Waker) -> Joined {
        let notify = Arc::default();
        let mut lanes = self.lock();
        // Another thread may have opened it.
        let (opened, end) = match lanes.linked(runtime) {
            Some(end) => (None, end),
            None => {
                let (lane, end) = lanes.open_linked(runtime, deadline);
                (Some(Opened { lane, notify }), end)
            }
        };
        Joined { place: lanes.push(end, deadline, waker), opened }
    }

    /// Takes a place in the sorted lane of the runtime. Without such a lane the waker comes back.
    pub(super) fn join_sorted(
        &self,
        runtime: runtime::Id,
        deadline: Instant,
        waker: Waker,
    ) -> Result<u32, Waker> {
        let lanes = self.lock();
        let Some(lane) = lanes.sorted(runtime) else { return Err(waker) };
        Ok(insert(lanes, lane, deadline, waker))
    }

    /// Takes a place in the sorted lane of the runtime, which is opened if there is none.
    pub(super) fn open_sorted(&self, runtime: runtime::Id, deadline: Instant, waker: Waker) -> Joined {
        let notify: Arc<Notify> = Arc::default();
        let mut lanes = self.lock();
        // Another thread may have opened it.
        let (opened, lane) = match lanes.sorted(runtime) {
            Some(lane) => (None, lane),
            None => {
                let lane = lanes.open_sorted(runtime, deadline, Arc::clone(&notify));
                (Some(Opened { lane, notify }), lane)
            }
        };
        Joined { place: insert(lanes, lane, deadline, waker), opened }
    }

    /// Whether the call is late. If it is not, its deadline will wake `waker`.
    pub(super) fn look(&self, place: u32, now: Instant, waker: &Waker) -> Look {
        let mut new = None;
        loop {
            let mut lanes = self.lock();
            let found = lanes.place(place);
            let look = match found.state {
                State::Linked | State::Sorted(_) if found.deadline > now => {
                    let known = found.waker.as_ref().is_some_and(|known| known.will_wake(waker));
                    let old = if known { None } else { new.take().and_then(|new| found.waker.replace(new)) };
                    drop(lanes);
                    if known || old.is_some() {
                        return Look::Waits;
                    }
                    new = Some(waker.clone());
                    continue;
                }
                State::Stranded if found.deadline > now => Look::Stranded(found.deadline),
                State::Linked | State::Sorted(_) | State::Due | State::Stranded => Look::Due,
            };
            free(lanes, place);
            return look;
        }
    }

    /// Frees the place of a call that waits no longer.
    pub(super) fn leave(&self, place: u32) {
        free(self.lock(), place);
    }

    /// Takes the wakers of the calls that are late by `late_by`; or, without it, of all calls, because their janitor ends.
    pub(super) fn take(&self, lane: u32, late_by: Option<Instant>, wakers: &mut [Option<Waker>]) -> Next {
        let mut lanes = self.lock();
        for waker in wakers {
            let Some((first, deadline)) = lanes.first(lane) else {
                lanes.close(lane);
                return Next::Closed;
            };
            if late_by.is_some_and(|late_by| deadline > late_by) {
                lanes.wakes_at(lane, deadline);
                return Next::At(deadline);
            }
            *waker = lanes.unlink(first);
            lanes.place(first).state = if late_by.is_some() { State::Due } else { State::Stranded };
        }
        Next::More
    }
}

fn insert(mut lanes: MutexGuard<'_, Lanes>, lane: u32, deadline: Instant, waker: Waker) -> u32 {
    let (place, janitor) = lanes.insert(lane, deadline, waker);
    drop(lanes);
    if let Some(janitor) = janitor {
        janitor.notify_one();
    }
    place
}

/// Frees a place, and drops what was in it without the lock.
#[inline]
fn free(mut lanes: MutexGuard<'_, Lanes>, place: u32) {
    let waker = lanes.remove(place);
    if lanes.is_too_large() {
        let room = lanes.make_small();
        drop(lanes);
        drop(room);
    } else {
        drop(lanes);
    }
    drop_in_destructor(waker);
}

/// Drops a waker, which is user code, perhaps while the thread unwinds: a panic that leaves a destructor then would abort
/// the process.
#[inline]
fn drop_in_destructor(waker: Option<Waker>) {
    if thread::panicking() {
        panics::quietly(|| drop(waker));
    } else {
        drop(waker);
    }
}
