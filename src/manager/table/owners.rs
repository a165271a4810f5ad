//! Whose tasks there are: the users and the sessions, each there for as long as it has a task.
//!
//! Neither keeps its name: it is that of its first task.

use std::hash::BuildHasher;
#[cfg(feature = "api")]
use std::num::NonZeroU64;

use super::list::List;
use super::{Entry, Table};

#[derive(Debug)]
pub(super) struct User {
    hash: u64,
    /// Grows with every change of any of the tasks, and is never one that any user had before.
    pub(super) version: u64,
    pub(super) all: List,
    pub(super) running: List,
    pub(super) done: List,
    pub(super) results: List,
    pub(super) result_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Session {
    hash: u64,
    pub(super) all: List,
}

impl Table {
    fn first_of(&self, list: List) -> Option<&Entry> {
        list.first().map(|index| &self.entries[index])
    }

    fn hash(&self, name: &str) -> u64 {
        // Many tasks have no session.
        if name.is_empty() { 0 } else { self.hasher.hash_one(name) }
    }

    fn user_of_hash(&self, hash: u64, user_id: &str) -> Option<u32> {
        let is_it = |entry: &Entry| entry.meta.is_of_user(user_id);
        self.users_by_id.find(hash, |index| self.first_of(self.users[index].all).is_some_and(is_it))
    }

    fn session_of_hash(&self, hash: u64, session_id: &str) -> Option<u32> {
        let is_it = |entry: &Entry| entry.meta.is_of_session(session_id);
        self.sessions_by_id.find(hash, |index| self.first_of(self.sessions[index].all).is_some_and(is_it))
    }

    pub(super) fn user(&self, user_id: &str) -> Option<&User> {
        let hash = self.hash(user_id);
        self.user_of_hash(hash, user_id).map(|index| &self.users[index])
    }

    pub(super) fn session(&self, session_id: &str) -> Option<&Session> {
        let hash = self.hash(session_id);
        self.session_of_hash(hash, session_id).map(|index| &self.sessions[index])
    }

    /// The user with this name, if there is one, and what [`add_user`](Self::add_user) wants to know.
    pub(super) fn find_user(&self, user_id: &str) -> (Option<u32>, u64) {
        let hash = self.hash(user_id);
        (self.user_of_hash(hash, user_id), hash)
    }

    /// A user without a task, who has to get one at once.
    pub(super) fn add_user(&mut self, hash: u64) -> u32 {
        let (all, running, done, results) = (List::new(), List::new(), List::new(), List::new());
        let user = User { hash, version: 0, all, running, done, results, result_bytes: 0 };
        let index = self.users.insert(user);
        self.users_by_id.insert(hash, index);
        index
    }

    /// The session with this name, or one without a task, which has to get one at once.
    pub(super) fn get_or_add_session(&mut self, session_id: &str) -> u32 {
        let hash = self.hash(session_id);
        self.session_of_hash(hash, session_id).unwrap_or_else(|| {
            let index = self.sessions.insert(Session { hash, all: List::new() });
            self.sessions_by_id.insert(hash, index);
            index
        })
    }

    /// The last task of a user or of a session has gone.
    pub(super) fn drop_empty(&mut self, user: u32, session: u32) {
        if self.users[user].all.len() == 0 {
            self.users_by_id.remove(self.users[user].hash, user);
            self.users.remove(user);
        }
        if self.sessions[session].all.len() == 0 {
            self.sessions_by_id.remove(self.sessions[session].hash, session);
            self.sessions.remove(session);
        }
    }

    /// A task of the user is different now.
    pub(super) fn touch(&mut self, user: u32) {
        self.version += 1;
        self.users[user].version = self.version;
    }

    /// Another number after each change of any task of the user. `None`: the user has no tasks.
    #[cfg(feature = "api")]
    pub(in crate::manager) fn version(&self, user_id: &str) -> Option<NonZeroU64> {
        NonZeroU64::new(self.user(user_id)?.version)
    }
}
