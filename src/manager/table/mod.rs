//! The records of this process and their indexes, all behind one mutex.
//!
//! One dense arena of entries, linked by index into a list for each user, for each session, and by the time of
//! their end. Every operation costs in proportion to what it touches, however many tasks there are.

mod arena;
mod list;
mod retention;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use self::arena::Arena;
use self::list::{Kind, Linked, Links, List, UNLINKED};
use super::limits::Limits;
use super::stats::Counters;
use super::{Refused, StopOutcome};
use crate::task::{FailureReason, Outcome, Scope, Settlement, TaskId, TaskRecord, TaskResult, TaskStatus};

/// Who asked a task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    Request,
    Shutdown,
}

#[derive(Debug)]
struct Entry {
    record: TaskRecord,
    links: Links,
    /// While it runs.
    control: Option<Control>,
    /// When it ended, in milliseconds of the manager's clock; for the time limit of the retention.
    ended_at: u64,
    result: Option<TaskResult>,
}

#[derive(Debug)]
struct Control {
    token: CancellationToken,
    cause: Option<StopCause>,
}

impl Linked for Entry {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[derive(Debug)]
struct User {
    all: List,
    done: List,
}

impl User {
    const fn running(&self) -> u32 {
        self.all.len() - self.done.len()
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Arena<Entry>,
    by_id: HashMap<TaskId, u32>,
    users: HashMap<Arc<str>, User>,
    sessions: HashMap<Arc<str>, List>,
    done: List,
    result_bytes: usize,
    pub(super) counters: Counters,
    /// No more admissions.
    pub(super) closed: bool,
    /// A janitor is on its way to drop what the time limit ends.
    pub(super) janitor: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: Arena::new(),
            by_id: HashMap::new(),
            users: HashMap::new(),
            sessions: HashMap::new(),
            done: List::new(),
            result_bytes: 0,
            counters: Counters::default(),
            closed: false,
            janitor: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.entries.len() - self.retained()
    }

    pub(super) const fn retained(&self) -> usize {
        self.done.len() as usize
    }

    pub(super) const fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Whether a task of this user may start now.
    pub(super) fn check_admission(&self, limits: &Limits, user_id: &str) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::ShuttingDown);
        }
        if self.running() >= limits.max_running as usize {
            return Err(Refused::TooManyRunning);
        }
        let of_user = self.users.get(user_id).map_or(0, User::running);
        if of_user >= limits.max_running_per_user {
            return Err(Refused::TooManyRunningForUser);
        }
        Ok(())
    }

    /// Adds a running task. A fresh random id never meets another one.
    pub(super) fn insert(&mut self, record: TaskRecord, token: CancellationToken) {
        let (id, user_id, session_id) =
            (record.id, Arc::clone(&record.meta.user_id), Arc::clone(&record.meta.session_id));
        let control = Some(Control { token, cause: None });
        let index = self.entries.push(Entry { record, links: UNLINKED, control, ended_at: 0, result: None });
        self.by_id.insert(id, index);
        let user = self.users.entry(user_id).or_insert_with(|| User { all: List::new(), done: List::new() });
        user.all.push_back(&mut self.entries, Kind::User, index);
        let session = self.sessions.entry(session_id).or_insert_with(List::new);
        session.push_back(&mut self.entries, Kind::Session, index);
    }

    /// Takes a task out that never ran: its admission was given back.
    pub(super) fn roll_back(&mut self, id: TaskId) {
        if let Some(&index) = self.by_id.get(&id) {
            self.remove(index);
        }
    }

    fn find(&self, scope: &Scope, id: TaskId) -> Option<u32> {
        let index = *self.by_id.get(&id)?;
        scope.contains(&self.entries[index].record.meta).then_some(index)
    }

    pub(super) fn get(&self, scope: &Scope, id: TaskId) -> Option<&TaskRecord> {
        self.find(scope, id).map(|index| &self.entries[index].record)
    }

    pub(super) fn result(&self, scope: &Scope, id: TaskId) -> Option<&TaskResult> {
        self.find(scope, id).and_then(|index| self.entries[index].result.as_ref())
    }

    /// The tasks of a scope in order of registration; walks the shorter of the lists that hold them all.
    fn iter<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (u32, &'a Entry)> {
        const EMPTY: &List = &List::new();
        let user = scope.user_id().map(|id| self.users.get(id).map_or(EMPTY, |user| &user.all));
        let session = scope.session_id().map(|id| self.sessions.get(id).unwrap_or(EMPTY));
        let (list, kind) = match (user, session) {
            (Some(user), Some(session)) if session.len() < user.len() => (session, Kind::Session),
            (Some(user), _) => (user, Kind::User),
            (None, Some(session)) => (session, Kind::Session),
            // A scope names a user or a session.
            (None, None) => (EMPTY, Kind::User),
        };
        list.iter(&self.entries, kind).filter(|(_, entry)| scope.contains(&entry.record.meta))
    }

    pub(super) fn list<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a TaskRecord> {
        self.iter(scope).map(|(_, entry)| &entry.record)
    }

    /// Notes a stop request. The token is to be cancelled after the lock is gone: cancelling runs wakers.
    pub(super) fn request_stop(
        &mut self,
        scope: &Scope,
        id: TaskId,
        now: SystemTime,
    ) -> (StopOutcome, Option<CancellationToken>) {
        let Some(index) = self.find(scope, id) else { return (StopOutcome::NotFound, None) };
        match self.stop_at(index, StopCause::Request, now) {
            Some(token) => (StopOutcome::Requested, Some(token)),
            None => (StopOutcome::AlreadyFinished(self.entries[index].record.clone()), None),
        }
    }

    /// The same for every running task of a scope.
    pub(super) fn request_stop_all(
        &mut self,
        scope: &Scope,
        now: SystemTime,
    ) -> Vec<(TaskId, CancellationToken)> {
        let running: Vec<u32> =
            self.iter(scope).filter(|(_, entry)| entry.control.is_some()).map(|(index, _)| index).collect();
        running
            .into_iter()
            .filter_map(|index| {
                let token = self.stop_at(index, StopCause::Request, now)?;
                Some((self.entries[index].record.id, token))
            })
            .collect()
    }

    /// The same for every running task there is.
    pub(super) fn request_shutdown(&mut self, now: SystemTime) -> Vec<CancellationToken> {
        (0..self.entries.len() as u32)
            .filter_map(|index| self.stop_at(index, StopCause::Shutdown, now))
            .collect()
    }

    /// `None`: it has ended. The first cause and time are the ones that count.
    fn stop_at(&mut self, index: u32, cause: StopCause, now: SystemTime) -> Option<CancellationToken> {
        let entry = &mut self.entries[index];
        let control = entry.control.as_mut()?;
        if control.cause.is_none() {
            control.cause = Some(cause);
            entry.record.cancel_requested_at = Some(now.max(entry.record.started_at));
        }
        Some(control.token.clone())
    }

    /// The one transition out of `running`. Of several, the first counts; `None` for the others.
    pub(super) fn settle(
        &mut self,
        limits: &Limits,
        id: TaskId,
        settlement: Settlement,
        now: SystemTime,
        clock: u64,
    ) -> Option<TaskRecord> {
        let index = self.by_id.get(&id).copied();
        let Some((index, control)) = index.and_then(|i| Some((i, self.entries[i].control.take()?))) else {
            self.counters.late += 1;
            return None;
        };
        let Settlement { outcome, result } = settlement;
        let (status, reason, error) = verdict(outcome, control.cause);
        self.counters.settled(status);
        let entry = &mut self.entries[index];
        entry.ended_at = clock;
        let record = &mut entry.record;
        record.status = status;
        record.failure_reason = reason;
        record.error_summary = error.map(Arc::from);
        record.completed_at = Some(now.max(record.started_at));
        let record = record.clone();
        if let Some(result) = result {
            self.store_result(limits, index, result);
        }
        self.retire(limits, index);
        Some(record)
    }

    /// Unlinks an entry from everything and drops it.
    fn remove(&mut self, index: u32) {
        let entry = &self.entries[index];
        let (id, done) = (entry.record.id, entry.control.is_none());
        let (user_id, session_id) =
            (Arc::clone(&entry.record.meta.user_id), Arc::clone(&entry.record.meta.session_id));
        self.result_bytes -= entry.result.as_ref().map_or(0, TaskResult::len);
        if done {
            self.done.unlink(&mut self.entries, Kind::Done, index);
        }
        if let Some(user) = self.users.get_mut(&user_id) {
            if done {
                user.done.unlink(&mut self.entries, Kind::UserDone, index);
            }
            user.all.unlink(&mut self.entries, Kind::User, index);
            if user.all.len() == 0 {
                self.users.remove(&user_id);
            }
        }
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.unlink(&mut self.entries, Kind::Session, index);
            if session.len() == 0 {
                self.sessions.remove(&session_id);
            }
        }
        self.by_id.remove(&id);
        let (_, moved) = self.entries.swap_remove(index);
        if moved.is_some() {
            self.moved(index);
        }
        self.shrink();
    }

    /// The entry that was the last one is now at `index`: tells everybody who points at it.
    fn moved(&mut self, index: u32) {
        let entry = &self.entries[index];
        let (id, done) = (entry.record.id, entry.control.is_none());
        let (user_id, session_id) =
            (Arc::clone(&entry.record.meta.user_id), Arc::clone(&entry.record.meta.session_id));
        self.by_id.insert(id, index);
        if done {
            self.done.moved(&mut self.entries, Kind::Done, index);
        }
        if let Some(user) = self.users.get_mut(&user_id) {
            user.all.moved(&mut self.entries, Kind::User, index);
            if done {
                user.done.moved(&mut self.entries, Kind::UserDone, index);
            }
        }
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.moved(&mut self.entries, Kind::Session, index);
        }
    }

    /// Gives memory back when the maps are far too large for what is in them.
    fn shrink(&mut self) {
        fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
            if map.capacity() > 64 && map.len() < map.capacity() / 8 {
                map.shrink_to(map.len() * 2);
            }
        }
        shrink(&mut self.by_id);
        shrink(&mut self.users);
        shrink(&mut self.sessions);
    }
}

/// What a record says about an outcome.
fn verdict(
    outcome: Outcome,
    cause: Option<StopCause>,
) -> (TaskStatus, Option<FailureReason>, Option<String>) {
    match (outcome, cause) {
        (Outcome::Completed, _) => (TaskStatus::Completed, None, None),
        (Outcome::Failed { reason, summary }, _) => (TaskStatus::Failed, Some(reason), Some(summary)),
        (Outcome::Cancelled, Some(StopCause::Shutdown)) => {
            (TaskStatus::Cancelled, Some(FailureReason::Shutdown), None)
        }
        (Outcome::Cancelled, Some(StopCause::Request)) => (TaskStatus::Cancelled, None, None),
        (Outcome::Cancelled, None) => {
            let text = "stopped although nobody had asked for it".to_owned();
            (TaskStatus::Failed, Some(FailureReason::Error), Some(text))
        }
    }
}
