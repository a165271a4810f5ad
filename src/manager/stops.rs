//! Asks tasks to stop, and lets their work know.

use std::mem;
use std::sync::atomic::Ordering;
use std::task::Waker;

use tokio_util::sync::CancellationToken;

use super::answers::StopOutcome;
use super::context::Running;
use super::news::News;
use super::shared::Shared;
use super::table::{Place, StopCause, StopRequest, Table};
use crate::panics;
use crate::task::{Scope, TaskId, now};

impl Shared {
    /// Tells the work that it should stop, and then everything else.
    fn stop(&self, requests: impl Iterator<Item = StopRequest>) {
        let mut new = Vec::new();
        for request in requests {
            drop(request.alarm);
            if request.is_new {
                new.push(request.record.id);
            }
        }
        self.tell(&News::of_change(!new.is_empty()));
        for task_id in new {
            panics::quietly(|| tracing::info!(%task_id, "background task asked to stop"));
        }
    }

    /// Whether the work of a task has to stop; see [`Table::must_stop`]. The worker notes what it has seen, so that
    /// the check takes no lock until a stop of any task is requested.
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
        // Another process has ended the task if it has no token any more.
        let (token, stopping) =
            self.table().token_of(place).unwrap_or_else(|| (CancellationToken::new(), true));
        if stopping {
            // This runs the wakers of the tasks that watch the token.
            panics::quietly(|| token.cancel());
        }
        token
    }

    pub(super) fn cancel_token_of(&self, place: Place) {
        let token = self.table().made_token_of(place);
        if let Some(token) = token {
            panics::quietly(move || token.cancel());
        }
    }

    fn note_stops(&self, table: &mut Table, requests: &[StopRequest]) {
        // Before a worker is woken, because a worker that wakes looks whether this has changed. Only for a new request,
        // because all workers look.
        if requests.iter().any(|request| request.is_new) {
            self.stops.fetch_add(1, Ordering::Release);
        }
        for request in requests.iter().filter(|request| request.is_new) {
            self.announce(table, &request.record);
            if let Some(mirror) = &self.mirror {
                mirror.update(&request.record);
            }
        }
    }

    pub(super) fn request_stop(&self, scope: &Scope, id: TaskId) -> StopOutcome {
        let (outcome, request) = {
            let mut table = self.fresh_table();
            let (outcome, request) = table.request_stop(scope, id, now());
            self.note_stops(&mut table, request.as_slice());
            (outcome, request)
        };
        self.stop(request.into_iter());
        outcome
    }

    pub(super) fn request_stop_all(&self, scope: &Scope) -> usize {
        let most = self.len_of(scope);
        // The memory comes before the lock.
        let mut running = Vec::with_capacity(most);
        running.extend(self.table().running_in(scope));
        self.stop_found(&running, StopCause::Request)
    }

    pub(super) fn request_shutdown(&self) {
        let most = self.running();
        let mut running = Vec::with_capacity(most);
        running.extend(self.table().all_running());
        self.stop_found(&running, StopCause::Shutdown);
    }

    /// Asks tasks to stop, some at a time so that no caller waits long for the lock, and returns how many still ran.
    fn stop_found(&self, found: &[Place], cause: StopCause) -> usize {
        const BATCH: usize = 64;
        let at = now();
        let mut count = 0;
        let mut requests = Vec::with_capacity(found.len().min(BATCH));
        for batch in found.chunks(BATCH) {
            {
                let mut table = self.table();
                requests.extend(batch.iter().filter_map(|&task| table.stop_found(task, cause, at)));
                self.note_stops(&mut table, &requests);
            }
            count += requests.len();
            self.stop(requests.drain(..));
        }
        count
    }

    fn len_of(&self, scope: &Scope) -> usize {
        self.fresh_table().len_of(scope)
    }

    fn running(&self) -> usize {
        self.table().running()
    }

    /// A task has run for as long as it may.
    pub(super) fn reach_limit(&self, place: Place) {
        self.stop_found(&[place], StopCause::RunTime);
    }
}
