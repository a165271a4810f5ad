//! The queue of wakeups, which all users share.
//!
//! Deliveries fill it, and so clients do; it may have no reader. So the entries of each user are a stream of their own: at
//! the limit of entries the user with most of them gives way. Readers see one queue, in the order of the entries' ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::message::Wakeup;
use super::super::{Entry, EntryId, Result};
use super::stream::{Holder, Kind, PROGRAM, Streams};

/// Which users have entries, each with their first entry.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_first: BTreeMap<EntryId, Arc<str>>,
    /// The last one has most entries. Of several that have as many it has the oldest one.
    by_len: BTreeSet<(usize, Reverse<EntryId>, Arc<str>)>,
}

impl Users {
    /// Notes that a user's stream has changed: how many entries it had, the first one of them, and the same now.
    pub(super) fn update(
        &mut self,
        user: &Arc<str>,
        before: Option<(usize, EntryId)>,
        now: Option<(usize, EntryId)>,
    ) {
        if let Some((len, first)) = before {
            self.by_first.remove(&first);
            self.by_len.remove(&(len, Reverse(first), Arc::clone(user)));
        }
        if let Some((len, first)) = now {
            self.by_first.insert(first, Arc::clone(user));
            self.by_len.insert((len, Reverse(first), Arc::clone(user)));
        }
    }

    /// The user with most entries.
    pub(super) fn largest(&self) -> Option<Arc<str>> {
        self.by_len.last().map(|(_, _, user)| Arc::clone(user))
    }

    /// The first entry of all, and its user.
    fn first(&self) -> Option<(EntryId, Arc<str>)> {
        self.by_first.first_key_value().map(|(id, user)| (*id, Arc::clone(user)))
    }
}

/// Whose wakeup it is: one that is put back is its user's, like one that a delivery has made.
fn user_of(payload: &str) -> Option<String> {
    Wakeup::read(payload).ok().map(|wakeup| wakeup.user_id)
}

impl Streams {
    /// Adds a wakeup of any program.
    pub(super) fn push_wakeup(&mut self, payload: &str) -> Result<EntryId> {
        let user = user_of(payload);
        let (holder, key) = match &user {
            Some(user) => (Holder::User(user), &**user),
            None => (Holder::Program, PROGRAM),
        };
        self.admit(Self::cost(key, payload))?;
        Ok(self.push(Kind::Wakeups, holder, key, payload))
    }

    pub(super) fn drain_wakeups(&mut self, max: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        while entries.len() < max
            && let Some((_, user)) = self.wakeups_of.first()
        {
            self.cut(Kind::Wakeups, &user, 1, |entry| entries.push(entry.into()));
        }
        entries
    }

    pub(super) fn peek_wakeups(&self, max: usize) -> Vec<Entry> {
        let users = self.wakeups_of.by_first.values();
        let mut found: Vec<_> =
            users.filter_map(|user| self.side(Kind::Wakeups).get(user)).flatten().collect();
        found.sort_unstable_by_key(|entry| entry.id);
        found.into_iter().take(max).map(Entry::from).collect()
    }

    pub(super) fn remove_wakeups_through(&mut self, id: EntryId) {
        while let Some((first, user)) = self.wakeups_of.first()
            && first <= id
        {
            self.cut(Kind::Wakeups, &user, 1, |_| ());
        }
    }

    pub(super) fn expire_wakeups_in(&mut self, now: Instant, ttl: Option<Duration>) {
        let users: Vec<_> = self.wakeups_of.by_first.values().cloned().collect();
        for user in users {
            self.expire_in(Kind::Wakeups, &user, now, ttl);
        }
    }
}
