//! The tokio runtimes that a helper can run on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio::time::Sleep;

use crate::panics;

/// So many runtimes are remembered. A helper needs one that is alive, and programs have one or two.
const REMEMBERED: usize = 16;

/// The runtimes of the callers, without those that are known to have ended.
#[derive(Debug)]
pub(crate) struct Runtimes {
    /// The runtime that the user has chosen.
    chosen: Option<Handle>,
    /// The runtime that was used last comes last.
    known: Mutex<Vec<Known>>,
    /// Whether one of them has no time driver.
    some_have_no_timers: AtomicBool,
}

#[derive(Debug)]
struct Known {
    handle: Handle,
    /// `None` until that is needed: finding out costs a panic where there is no time driver.
    has_timers: Option<bool>,
}

impl Runtimes {
    pub(crate) fn new(chosen: Option<Handle>) -> Self {
        let known = chosen.iter().cloned().map(Known::new).collect();
        Self { known: Mutex::new(known), chosen, some_have_no_timers: AtomicBool::new(false) }
    }

    /// The runtime that a task runs on: the chosen one, else the one of the caller. Remembers the one of the caller.
    pub(crate) fn for_tasks(&self) -> Option<Handle> {
        let current = self.remember_current();
        self.chosen.clone().or(current)
    }

    /// Remembers the runtime of the caller: a helper can go on there when its own runtime ends.
    pub(crate) fn remember_current(&self) -> Option<Handle> {
        let current = Handle::try_current().ok()?;
        self.remember(&current);
        Some(current)
    }

    pub(crate) fn remember(&self, handle: &Handle) {
        let id = handle.id();
        let forgotten = {
            let mut known = self.known();
            if known.last().is_some_and(|last| last.handle.id() == id) {
                return;
            }
            if let Some(place) = known.iter().position(|known| known.handle.id() == id) {
                known[place..].rotate_left(1);
                return;
            }
            let place = (known.len() == REMEMBERED).then(|| self.least_useful(&known));
            let forgotten = place.map(|place| known.remove(place));
            known.push(Known::new(handle.clone()));
            forgotten
        };
        // Without the lock: the last handle of a runtime may drop user code.
        drop(forgotten);
    }

    /// The runtime to forget: a program that makes many short-lived runtimes still has the one that it lives on.
    fn least_useful(&self, known: &[Known]) -> usize {
        let chosen = self.chosen.as_ref().map(Handle::id);
        let is_other = |known: &Known| Some(known.handle.id()) != chosen;
        let short_lived = known.iter().position(|known| is_other(known) && !known.has_threads());
        short_lived.or_else(|| known.iter().position(is_other)).unwrap_or_default()
    }

    /// A runtime for a helper, if one with timers is known that may be alive. Remembers the runtime of the caller.
    pub(super) fn for_helper(&self) -> Option<Handle> {
        let current = self.remember_current();
        self.choose(current.map(|current| current.id()))
    }

    /// Forgets a runtime that has ended, and answers another one for a helper.
    pub(super) fn after_end_of(&self, ended: Id) -> Option<Handle> {
        let forgotten = {
            let mut known = self.known();
            let place = known.iter().position(|known| known.handle.id() == ended);
            place.map(|place| known.remove(place))
        };
        drop(forgotten);
        // The caller may be a task that the runtime drops at its end: its own runtime is none to remember.
        self.choose(None)
    }

    /// If possible a runtime with threads of its own: a `current_thread` runtime stands still between two calls of
    /// `block_on`. Among those the chosen one, the one of the caller, the one that was used last.
    fn choose(&self, current: Option<Id>) -> Option<Handle> {
        let chosen = self.chosen.as_ref().map(Handle::id);
        loop {
            let (handle, has_timers) = {
                let known = self.known();
                let possible = known.iter().filter(|known| known.has_timers != Some(false));
                let best = possible.max_by_key(|known| {
                    let id = Some(known.handle.id());
                    (known.has_threads(), id == chosen, id == current)
                })?;
                (best.handle.clone(), best.has_timers)
            };
            if has_timers == Some(true) || self.check_timers(&handle) {
                return Some(handle);
            }
        }
    }

    /// Whether a runtime has timers.
    pub(super) fn has_timers(&self, handle: &Handle) -> bool {
        let checked = {
            let known = self.known();
            known.iter().find(|known| known.handle.id() == handle.id()).and_then(|known| known.has_timers)
        };
        checked.unwrap_or_else(|| self.check_timers(handle))
    }

    /// A timer of the current runtime. `None` if that has no time driver: what should be limited in time is not limited there.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        // Asked first where it may be known: the attempt is a panic, which the panic hook of the process reports.
        if self.some_have_no_timers.load(Ordering::Relaxed)
            && let Ok(current) = Handle::try_current()
            && !self.has_timers(&current)
        {
            return None;
        }
        match panics::catch(|| tokio::time::sleep(duration)) {
            Ok(sleep) => Some(sleep),
            Err(_) => {
                self.note_timers(Handle::try_current().ok()?.id(), false);
                None
            }
        }
    }

    /// Tries whether a runtime has timers. tokio has no other way to ask.
    fn check_timers(&self, handle: &Handle) -> bool {
        let has_timers = {
            let _entered = handle.enter();
            panics::catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
        };
        self.note_timers(handle.id(), has_timers);
        has_timers
    }

    fn note_timers(&self, runtime: Id, has_timers: bool) {
        if let Some(known) = self.known().iter_mut().find(|known| known.handle.id() == runtime) {
            known.has_timers = Some(has_timers);
        }
        if !has_timers {
            self.some_have_no_timers.store(true, Ordering::Relaxed);
            panics::quietly(|| {
                tracing::warn!(
                    "a runtime has no time driver: limits on time do not hold for the tasks that run on it"
                );
            });
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    const fn new(handle: Handle) -> Self {
        Self { handle, has_timers: None }
    }

    fn has_threads(&self) -> bool {
        !matches!(self.handle.runtime_flavor(), RuntimeFlavor::CurrentThread)
    }
}
