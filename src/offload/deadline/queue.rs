use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::lanes::{Key, Lanes, State};

/// Calls of more different timeouts than this are in no lane. Clients may choose timeouts, and lanes are searched.
const MAX_LANES: usize = 16;

/// The calls of a layer that wait, behind one lock, which is held for a few words only.
///
/// No user code runs under it, and wakers are user code: to clone one, to drop one, to wake.
pub(super) struct Queue {
    /// The timeout of the layer. Its lanes, one for each runtime, are not counted.
    usual: Duration,
    lanes: Mutex<Lanes>,
}

/// A place that a call has taken.
pub(super) struct Joined {
    pub(super) place: u32,
    /// The lane, if it is new and needs a janitor.
    pub(super) opened: Option<u32>,
}

/// What a call finds.
pub(super) enum Look {
    Waits,
    /// It is time, and the place is free.
    Due,
    /// The lane has gone, so that no task will wake the call, and the place is free.
    Stranded(Instant),
}

/// What a janitor does next.
pub(super) enum Next {
    /// Ask again.
    More,
    /// Sleep.
    At(Instant),
    /// End. The lane is gone.
    Nobody,
}

impl Queue {
    pub(super) const fn new(usual: Duration) -> Self {
        Self { usual, lanes: Mutex::new(Lanes::new()) }
    }

    /// Nothing under the lock panics, so a poisoned one holds sound lanes.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in a lane that is there; or the waker back.
    #[inline]
    pub(super) fn join(&self, key: Key, deadline: Instant, waker: Waker) -> Result<u32, Waker> {
        let mut lanes = self.lock();
        match lanes.find(key) {
            Some(end) => Ok(lanes.push(end, deadline, waker)),
            None => Err(waker),
        }
    }

    /// A place in a new lane; or the waker back if there are too many.
    pub(super) fn open(&self, key: Key, deadline: Instant, waker: Waker) -> Result<Joined, Waker> {
        let mut lanes = self.lock();
        let (opened, end) = match lanes.find(key) {
            // Another thread was faster.
            Some(end) => (None, end),
            None if key.timeout != self.usual && lanes.count_besides(self.usual) >= MAX_LANES => {
                return Err(waker);
            }
            None => {
                let (lane, end) = lanes.open(key, deadline);
                (Some(lane), end)
            }
        };
        Ok(Joined { place: lanes.push(end, deadline, waker), opened })
    }

    /// Whether it is time. If not, it is `waker` that will be woken.
    pub(super) fn look(&self, place: u32, now: Instant, waker: &Waker) -> Look {
        let mut new = None;
        loop {
            let mut lanes = self.lock();
            let found = lanes.place(place);
            let look = match found.state {
                State::Waits if found.deadline > now => {
                    let known = found.waker.as_ref().is_some_and(|known| known.will_wake(waker));
                    let old = if known { None } else { new.take().and_then(|new| found.waker.replace(new)) };
                    drop(lanes);
                    if known || old.is_some() {
                        return Look::Waits;
                    }
                    new = Some(waker.clone());
                    continue;
                }
                State::Waits | State::Due => Look::Due,
                State::Stranded => Look::Stranded(found.deadline),
            };
            free(lanes, place);
            return look;
        }
    }

    /// The call waits no longer. Frees the place.
    pub(super) fn leave(&self, place: u32) {
        free(self.lock(), place);
    }

    /// Takes the wakers of those who are late by `late_by`; or, without it, of all who wait, because their janitor goes.
    pub(super) fn take(&self, lane: u32, late_by: Option<Instant>, wakers: &mut [Option<Waker>]) -> Next {
        let mut lanes = self.lock();
        for waker in wakers {
            let Some((first, deadline)) = lanes.first(lane) else {
                lanes.close(lane);
                return Next::Nobody;
            };
            if late_by.is_some_and(|late_by| deadline > late_by) {
                return Next::At(deadline);
            }
            *waker = lanes.unlink(first);
            lanes.place(first).state = if late_by.is_some() { State::Due } else { State::Stranded };
        }
        Next::More
    }
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
    drop(waker);
}
