//! How a task is asked to stop, and how its work finds that out.

use std::task::Waker;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::entry::{Alarm, Stamp};
use super::links::{Kind, List};
use super::{Phase, Place, Table};
use crate::manager::answers::StopOutcome;
use crate::task::{Scope, TaskId, TaskRecord};

/// Who asked a task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::manager) enum StopCause {
    Request,
    RunTime,
    Shutdown,
}

/// A stop request that was noted. Dropping it wakes the work, after the lock is released.
#[derive(Debug)]
pub(in crate::manager) struct StopRequest {
    pub(in crate::manager) record: TaskRecord,
    pub(in crate::manager) alarm: Alarm,
    /// It is the first request for this task.
    pub(in crate::manager) is_new: bool,
}

impl Table {
    /// Notes a stop request.
    pub(in crate::manager) fn request_stop(
        &mut self,
        scope: &Scope,
        id: TaskId,
        now: SystemTime,
    ) -> (StopOutcome, Option<StopRequest>) {
        let Some(index) = self.find(scope, id) else { return (StopOutcome::NotFound, None) };
        match self.stop_at(index, StopCause::Request, now) {
            Some(request) => (StopOutcome::Requested, Some(request)),
            None => (StopOutcome::AlreadyFinished(self.entries[index].record()), None),
        }
    }

    /// The running tasks of a scope, in order of registration.
    pub(in crate::manager) fn running_in<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = Place> + use<'a> {
        let user = scope.user_id().map(|id| self.user(id).map_or(List::new(), |user| user.running));
        let walk = self.walk(scope, user.map(|list| (list, Kind::UserPhase)));
        walk.filter(|(_, entry)| entry.is_running()).map(|(index, entry)| entry.place(index))
    }

    /// All running tasks. Looks at those that have ended as well.
    pub(in crate::manager) fn all_running(&self) -> impl Iterator<Item = Place> {
        let running = self.entries.iter().filter(|(_, entry)| entry.is_running());
        running.map(|(index, entry)| entry.place(index))
    }

    /// The same as [`request_stop`](Self::request_stop) for a task that was found before.
    pub(in crate::manager) fn stop_found(
        &mut self,
        place: Place,
        cause: StopCause,
        now: SystemTime,
    ) -> Option<StopRequest> {
        let index = self.at(place)?;
        self.stop_at(index, cause, now)
    }

    /// `None`: it has ended. The first cause and time are the ones that count.
    fn stop_at(&mut self, index: u32, cause: StopCause, now: SystemTime) -> Option<StopRequest> {
        let entry = &mut self.entries[index];
        let Phase::Running(control) = &mut entry.phase else { return None };
        // Work that has ended unpublished still reads `running`: the request changes nothing any more.
        let is_new = control.cause.is_none() && !control.is_unpublished();
        let alarm = control.alarm();
        if is_new {
            control.cause = Some(cause);
            entry.cancel_requested_at = Some(Stamp::of(now).max(entry.started_at));
        }
        let (user, request) = (entry.user, StopRequest { record: entry.record(), alarm, is_new });
        if is_new {
            self.touch(user);
        }
        Some(request)
    }

    /// Whether the work of a task has to stop: its stop was requested, or its record has ended. If not, a later request
    /// wakes `waker`.
    pub(in crate::manager) fn must_stop(&mut self, place: Place, waker: Option<&Waker>) -> bool {
        let Some(index) = self.at(place) else { return true };
        let Phase::Running(control) = &mut self.entries[index].phase else { return true };
        if control.cause.is_none() && waker.is_some() {
            control.waker = waker.cloned();
        }
        control.cause.is_some()
    }

    /// The token that the work watches, made now if there is none. The flag says that the task should stop already: the caller
    /// has to cancel the token.
    pub(in crate::manager) fn token_of(&mut self, place: Place) -> Option<(CancellationToken, bool)> {
        let index = self.at(place)?;
        let Phase::Running(control) = &mut self.entries[index].phase else { return None };
        let token = control.extra.get_or_insert_default().token.get_or_insert_default();
        Some((token.clone(), control.cause.is_some()))
    }

    /// The same, if it was made.
    pub(in crate::manager) fn made_token_of(&self, place: Place) -> Option<CancellationToken> {
        let index = self.at(place)?;
        let Phase::Running(control) = &self.entries[index].phase else { return None };
        control.extra.as_ref()?.token.clone()
    }
}
