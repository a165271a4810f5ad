//! The users and the sessions that have tasks. A user stays for deliveries, too.
//!
//! Their names are those in the description of their first task. Only a user whose tasks are gone before their deliveries has a
//! name of its own.

use std::hash::BuildHasher;
#[cfg(feature = "api")]
use std::num::NonZeroU64;

use super::links::List;
use super::{Entry, Table, Thrown};
use crate::task::TaskMeta;

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
    /// Deliveries of tasks that have ended.
    pub(super) delivering: u32,
    /// The name, while there are deliveries and no tasks.
    name: Option<TaskMeta>,
}

impl User {
    /// What counts against the limit on running tasks.
    pub(super) fn active(&self) -> u32 {
        self.running.len().saturating_add(self.delivering)
    }
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
        self.users_by_id.find(hash, |index| {
            let user = &self.users[index];
            let first = self.first_of(user.all).map(|entry| &entry.meta);
            first.or(user.name.as_ref()).is_some_and(|meta| meta.is_of_user(user_id))
        })
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

    /// Adds a user without a task. The caller adds a task at once.
    pub(super) fn add_user(&mut self, hash: u64) -> u32 {
        let (all, running, done, results) = (List::new(), List::new(), List::new(), List::new());
        let user = User {
            hash,
            version: 0,
            all,
            running,
            done,
            results,
            result_bytes: 0,
            delivering: 0,
            name: None,
        };
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

    /// A task with this description has gone: drops its user and its session if it was the last one.
    pub(super) fn drop_empty(&mut self, user: u32, session: u32, meta: &TaskMeta) {
        if self.users[user].all.len() == 0 && self.users[user].delivering > 0 {
            self.users[user].name = Some(meta.clone());
        }
        self.drop_empty_user(user);
        if self.sessions[session].all.len() == 0 {
            self.sessions_by_id.remove(self.sessions[session].hash, session);
            self.sessions.remove(session);
        }
    }

    /// Drops a user who has neither tasks nor deliveries.
    pub(super) fn drop_empty_user(&mut self, user: u32) {
        if self.users[user].all.len() == 0 && self.users[user].delivering == 0 {
            self.users_by_id.remove(self.users[user].hash, user);
            let User { name, .. } = self.users.remove(user);
            if let Some(name) = name {
                self.trash.push(Thrown::Task(name, None));
            }
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
        let user = self.user(user_id).filter(|user| user.all.len() > 0)?;
        NonZeroU64::new(user.version)
    }
}
