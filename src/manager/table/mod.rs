//! The records of this process and their indexes, all behind one mutex.
//!
//! One arena of entries, linked by index into a list for each user and for each session, of those that run and of
//! those that have ended. Every operation costs in proportion to what it touches, however many tasks there are.
//!
//! No user code runs in here, wakers included: what notifies callers and subscribers is returned, to be used when the lock
//! is released. What is dropped is returned too, because dropping may take long.

mod arena;
mod ending;
mod entry;
mod index;
mod links;
mod locked;
mod owners;
mod retention;
mod stopping;

use std::hash::RandomState;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::arena::Arena;
pub(super) use self::ending::{Audience, Ending, SettleOutcome};
pub(super) use self::entry::Entry;
use self::entry::{EndSender, Kept, Phase};
use self::index::Index;
use self::links::{Kind, List};
pub(super) use self::locked::Locked;
use self::locked::{Thrown, Trash};
use self::owners::{Session, User};
pub(super) use self::stopping::{StopCause, StopRequest};
use super::changes::ChangeQueue;
use super::limits::Limits;
use super::refused::Refused;
use super::stats::Counters;
use crate::task::{Scope, TaskId, TaskRecord, TaskResult};

/// Where a task is, as long as it is there: what finds it without a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    index: u32,
    /// Its user's place, which is valid for as long as the task is there or a delivery of it counts.
    user: u32,
    pub(super) id: TaskId,
}

/// Counts tasks that read `running` only because other processes cannot see their end yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unpublished {
    pub(super) ends: usize,
    /// Those of them that have a delivery, which waits for the publication.
    pub(super) deliveries: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Arena<Entry>,
    by_id: Index,
    users: Arena<User>,
    users_by_id: Index,
    sessions: Arena<Session>,
    sessions_by_id: Index,
    hasher: RandomState,
    done: List,
    result_bytes: usize,
    /// The version of the user whose tasks changed last.
    version: u64,
    trash: Trash,
    /// Changes that subscribers do not have yet, in their order.
    pub(super) changes: ChangeQueue,
    /// Ended tasks whose result is being delivered, or whose work still exists because another process has ended them. Each
    /// counts for its user, too.
    delivering: usize,
    /// Running tasks whose work has ended and whose end is not published.
    unpublished: Unpublished,
    pub(super) counters: Counters,
    /// No more admissions.
    pub(super) closed: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: Arena::new(),
            by_id: Index::default(),
            users: Arena::new(),
            users_by_id: Index::default(),
            sessions: Arena::new(),
            sessions_by_id: Index::default(),
            hasher: RandomState::new(),
            done: List::new(),
            result_bytes: 0,
            version: 0,
            trash: Trash::default(),
            changes: ChangeQueue::default(),
            delivering: 0,
            unpublished: Unpublished::default(),
            counters: Counters::default(),
            closed: false,
        }
    }

    pub(super) const fn running(&self) -> usize {
        self.entries.len() - self.retained()
    }

    /// Tasks of which something runs: what a shutdown waits for.
    pub(super) const fn active(&self) -> usize {
        self.running() + self.delivering
    }

    /// Nothing is active, and nothing will be.
    pub(super) const fn is_over(&self) -> bool {
        self.closed && self.active() == 0
    }

    pub(super) const fn delivering(&self) -> usize {
        self.delivering
    }

    pub(super) const fn unpublished(&self) -> Unpublished {
        self.unpublished
    }

    pub(super) const fn retained(&self) -> usize {
        self.done.len() as usize
    }

    pub(super) const fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Adds a running task, unless it is one too many. A fresh random id never meets another one.
    pub(super) fn admit(
        &mut self,
        limits: &Limits,
        record: &TaskRecord,
        token: Option<CancellationToken>,
    ) -> Result<Place, Refused> {
        if self.closed {
            return Err(Refused::ShuttingDown);
        }
        // Deliveries count too, here and for the user: while they cannot be made, what waits for them must not grow for
        // ever, and must not take the places of other users.
        if self.active() >= limits.max_running as usize {
            return Err(Refused::TooManyRunning);
        }
        let (user, hash) = self.find_user(record.meta.user_id());
        let of_user = user.map_or(0, |user| self.users[user].active());
        if of_user >= limits.max_running_per_user {
            return Err(Refused::TooManyRunningForUser);
        }
        let user = user.unwrap_or_else(|| self.add_user(hash));
        let session = self.get_or_add_session(record.meta.session_id());
        let entries = &mut self.entries;
        let index = entries.insert(Entry::running(record, token, user, session));
        self.by_id.insert(hash_of(record.id), index);
        self.users[user].all.push_back(entries, Kind::User, index);
        self.users[user].running.push_back(entries, Kind::UserPhase, index);
        self.sessions[session].all.push_back(entries, Kind::Session, index);
        self.counters.admitted += 1;
        self.touch(user);
        Ok(Place { index, user, id: record.id })
    }

    /// Takes out a task that never ran: its admission was given back. Dropping the returned entry wakes the callers of `wait`.
    pub(super) fn roll_back(&mut self, place: Place) -> Option<Entry> {
        let index = self.at(place)?;
        self.counters.admitted -= 1;
        Some(self.remove(index))
    }

    /// Whether the task is still at its place.
    fn at(&self, Place { index, id, .. }: Place) -> Option<u32> {
        self.entries.get(index).filter(|entry| entry.id == id).map(|_| index)
    }

    /// The task at its place.
    pub(super) fn get_at(&self, place: Place) -> Option<&Entry> {
        self.at(place).map(|index| &self.entries[index])
    }

    fn index_of(&self, id: TaskId) -> Option<u32> {
        self.by_id.find(hash_of(id), |index| self.entries[index].id == id)
    }

    fn find(&self, scope: &Scope, id: TaskId) -> Option<u32> {
        self.index_of(id).filter(|&index| scope.contains(&self.entries[index].meta))
    }

    pub(super) fn get(&self, scope: &Scope, id: TaskId) -> Option<&Entry> {
        self.find(scope, id).map(|index| &self.entries[index])
    }

    pub(super) fn result(&self, scope: &Scope, id: TaskId) -> Option<&TaskResult> {
        self.get(scope, id)?.result()
    }

    /// The last record of a task, or what will tell it.
    pub(super) fn watch(
        &mut self,
        scope: &Scope,
        id: TaskId,
    ) -> Option<Result<TaskRecord, watch::Receiver<Option<TaskRecord>>>> {
        let index = self.find(scope, id)?;
        let entry = &mut self.entries[index];
        Some(match &mut entry.phase {
            Phase::Running(control) => {
                let extra = control.extra.get_or_insert_default();
                Err(extra.waiters.get_or_insert_with(|| Arc::new(EndSender::new(None))).subscribe())
            }
            Phase::Ended(_) => Ok(entry.record()),
        })
    }

    /// The tasks of a scope in order of registration; walks the shorter of the lists that hold them all.
    pub(super) fn iter<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Entry> {
        let user = scope.user_id().map(|id| self.user(id).map_or(List::new(), |user| user.all));
        self.walk(scope, user.map(|list| (list, Kind::User))).map(|(_, entry)| entry)
    }

    /// How many tasks of a scope there are, or a few more.
    pub(super) fn len_of(&self, scope: &Scope) -> usize {
        let user = scope.user_id().map(|id| self.user(id).map_or(0, |user| user.all.len()));
        let session = scope.session_id().map(|id| self.session(id).map_or(0, |session| session.all.len()));
        user.into_iter().chain(session).min().unwrap_or(0) as usize
    }

    fn walk<'a>(
        &'a self,
        scope: &'a Scope,
        user: Option<(List, Kind)>,
    ) -> impl Iterator<Item = (u32, &'a Entry)> {
        let session =
            scope.session_id().map(|id| self.session(id).map_or(List::new(), |session| session.all));
        let (list, kind) = match (user, session) {
            (Some((user, _)), Some(session)) if session.len() < user.len() => (session, Kind::Session),
            (Some(user), _) => user,
            (None, Some(session)) => (session, Kind::Session),
            // A scope names a user or a session.
            (None, None) => (List::new(), Kind::User),
        };
        list.iter(&self.entries, kind).filter(|(_, entry)| scope.contains(&entry.meta))
    }

    /// Unlinks an entry from everything.
    fn remove(&mut self, index: u32) -> Entry {
        self.forget_result(index);
        self.leave_phase(index);
        let entries = &mut self.entries;
        let Entry { id, user, session, .. } = entries[index];
        self.users[user].all.unlink(entries, Kind::User, index);
        self.sessions[session].all.unlink(entries, Kind::Session, index);
        self.by_id.remove(hash_of(id), index);
        let entry = entries.remove(index);
        self.touch(user);
        self.drop_empty(user, session, &entry.meta);
        entry
    }

    /// Takes an entry off the lists of those that run, or of those that have ended.
    fn leave_phase(&mut self, index: u32) {
        let entries = &mut self.entries;
        let (user, running) = (entries[index].user, entries[index].is_running());
        let user = &mut self.users[user];
        if running {
            user.running.unlink(entries, Kind::UserPhase, index);
        } else {
            user.done.unlink(entries, Kind::UserPhase, index);
            self.done.unlink(entries, Kind::Done, index);
        }
    }

    /// Drops a finished task, when the lock is gone.
    fn throw_away(&mut self, index: u32) {
        let Entry { meta, phase, .. } = self.remove(index);
        let kept = match phase {
            Phase::Ended(ended) => ended.kept,
            Phase::Running(_) => None,
        };
        self.trash.push(Thrown::Task(meta, kept));
    }
}

/// Ids are random already.
fn hash_of(id: TaskId) -> u64 {
    let (high, low) = id.as_uuid().as_u64_pair();
    // Without the version and the variant, which are in the middle.
    high.rotate_left(32) ^ low
}
