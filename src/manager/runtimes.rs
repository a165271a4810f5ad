//! The tokio runtimes that a manager can run on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Id};

/// So many runtimes are remembered. A helper needs one that is alive, and programs have one or two.
const REMEMBERED: usize = 16;

/// The runtimes that the manager was used on and that have not ended, as far as it knows.
#[derive(Debug)]
pub(crate) struct Runtimes {
    /// The one that the builder was given.
    chosen: Option<Handle>,
    seen: Mutex<Vec<Handle>>,
}

impl Runtimes {
    pub(super) fn new(chosen: Option<Handle>) -> Self {
        Self { seen: Mutex::new(chosen.iter().cloned().collect()), chosen }
    }

    /// The runtime that a task runs on: the chosen one, else the one that the caller is on.
    pub(super) fn for_tasks(&self) -> Option<Handle> {
        if let Some(chosen) = &self.chosen {
            return Some(chosen.clone());
        }
        let current = Handle::try_current().ok()?;
        self.remember(&current);
        Some(current)
    }

    /// A runtime for a helper: the one for tasks, else any that is alive.
    pub(super) fn for_helper(&self) -> Option<Handle> {
        let current = Handle::try_current().ok();
        if let Some(current) = &current {
            self.remember(current);
        }
        let alive = self.seen();
        let is_alive = |wanted: &&Handle| alive.iter().any(|known| known.id() == wanted.id());
        self.chosen.iter().chain(&current).find(is_alive).or_else(|| alive.last()).cloned()
    }

    /// One that is alive, after another one has ended.
    pub(super) fn after_end_of(&self, ended: Id) -> Option<Handle> {
        let mut seen = self.seen();
        let place = seen.iter().position(|known| known.id() == ended);
        let ended = place.map(|place| seen.remove(place));
        let other = seen.last().cloned();
        drop(seen);
        // Without the lock: what a runtime keeps may be user code.
        drop(ended);
        other
    }

    fn remember(&self, handle: &Handle) {
        let mut seen = self.seen();
        // The last one is the one that was used last: a program that makes many short-lived runtimes does not push out
        // the one that it always uses.
        if let Some(place) = seen.iter().position(|known| known.id() == handle.id()) {
            seen[place..].rotate_left(1);
            return;
        }
        let forgotten = (seen.len() == REMEMBERED).then(|| seen.remove(0));
        seen.push(handle.clone());
        drop(seen);
        // Without the lock: what a runtime keeps may be user code.
        drop(forgotten);
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
