//! Lists as they were last answered, for clients that ask again before anything has changed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;

use crate::task::Scope;

/// How much may be kept. Whatever clients do, and however many there are, it is no more than this.
#[derive(Clone, Copy)]
struct Limits {
    lists: usize,
    /// Of one list, with the names that it is found by.
    bytes_each: usize,
    bytes: usize,
}

const LIMITS: Limits = Limits { lists: 1024, bytes_each: 64 << 10, bytes: 16 << 20 };

/// One place for each hash of a scope: what is new takes the place of what was there. A hash says where to look and
/// nothing else. What is found there is answered only if user and session are those of the request, in full.
pub(super) struct Cache {
    hasher: RandomState,
    limits: Limits,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Empty until there is a list to keep.
    places: Vec<Option<List>>,
    bytes: usize,
    /// Where the last list was dropped to make room.
    hand: usize,
}

struct List {
    scope: Scope,
    version: NonZeroU64,
    body: Bytes,
}

impl List {
    fn bytes(&self) -> usize {
        let name = |name: Option<&str>| name.map_or(0, str::len);
        self.body.len() + name(self.scope.user_id()) + name(self.scope.session_id())
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: Limits) -> Self {
        Self { hasher: RandomState::new(), limits, kept: Mutex::default() }
    }

    /// The list of just this scope at just this version.
    pub(super) fn get(&self, scope: &Scope, version: NonZeroU64) -> Option<Bytes> {
        let place = self.place(scope);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let list = kept.places.get(place)?.as_ref()?;
        (list.version == version && list.scope == *scope).then(|| list.body.clone())
    }

    /// Keeps a list. `version` was read before the list was: a change in between then costs no more than a list that is
    /// never found.
    pub(super) fn put(&self, scope: Scope, version: NonZeroU64, body: Bytes) {
        let place = self.place(&scope);
        let list = List { scope, version, body };
        if list.bytes() > self.limits.bytes_each {
            return;
        }
        let dropped = self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(place, list, &self.limits);
        // Without the lock.
        drop(dropped);
    }

    fn place(&self, scope: &Scope) -> usize {
        // The remainder is smaller than a `usize`.
        (self.hasher.hash_one(scope) % self.limits.lists as u64) as usize
    }
}

impl Kept {
    /// Returns the lists that made room.
    fn put(&mut self, place: usize, list: List, limits: &Limits) -> Vec<List> {
        if self.places.is_empty() {
            self.places.resize_with(limits.lists, || None);
        }
        let mut dropped = Vec::new();
        self.bytes += list.bytes();
        dropped.extend(self.places[place].replace(list));
        self.bytes -= dropped.iter().map(List::bytes).sum::<usize>();
        // The new one is within the limits, so that this ends with the others at the latest.
        while self.bytes > limits.bytes {
            self.hand = (self.hand + 1) % limits.lists;
            if self.hand != place
                && let Some(list) = self.places[self.hand].take()
            {
                self.bytes -= list.bytes();
                dropped.push(list);
            }
        }
        dropped
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use axum::body::Body;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;
    use crate::api::BackgroundTasks;
    use crate::{TaskManager, TaskMeta};

    const ONE: NonZeroU64 = NonZeroU64::MIN;

    fn scope(user: usize, session: usize) -> Scope {
        let user = Scope::user(["a", "b", "", "ab"][user]);
        match session {
            0 => user,
            session => user.in_session(["", "a", "b"][session - 1]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        /// Under few places and little room: what is found was put for just this scope and this version.
        #[test]
        fn what_is_found_is_what_was_put(
            (lists, bytes) in (1..4_usize, 30..100_usize),
            steps in prop::collection::vec((0..4_usize, 0..4_usize, 1..4_u64, 0..40_usize), 0..60),
        ) {
            let cache = Cache::with(Limits { lists, bytes_each: 30, bytes });
            let mut put = HashMap::new();
            for (step, (user, session, version, len)) in steps.into_iter().enumerate() {
                let version = NonZeroU64::new(version).unwrap();
                let body = Bytes::from(format!("{step:len$}"));
                cache.put(scope(user, session), version, body.clone());
                if body.len() + 3 < 30 {
                    prop_assert_eq!(cache.get(&scope(user, session), version), Some(body.clone()));
                }
                put.entry((user, session, version)).or_insert_with(Vec::new).push(body);
                for (user, session, version) in (0..64).map(|i| (i / 16, i / 4 % 4, 1 + i as u64 % 4)) {
                    let version = NonZeroU64::new(version).unwrap();
                    if let Some(found) = cache.get(&scope(user, session), version) {
                        let put = put.get(&(user, session, version));
                        prop_assert!(put.is_some_and(|put| put.contains(&found)));
                        prop_assert!(found.len() <= 30);
                    }
                }
                let kept = cache.kept.lock().unwrap();
                prop_assert!(kept.places.len() <= lists && kept.bytes <= bytes);
                prop_assert_eq!(kept.bytes, kept.places.iter().flatten().map(List::bytes).sum::<usize>());
            }
        }
    }

    #[test]
    fn long_names_count_as_well() {
        let cache = Cache::new();
        let long = || Scope::user("a").in_session("s".repeat(LIMITS.bytes_each));
        cache.put(long(), ONE, Bytes::from_static(b"x"));
        assert_eq!(cache.get(&long(), ONE), None);
    }

    /// Two scopes that share a place in the cache see nothing of each other, over the real routes.
    #[tokio::test]
    async fn nobody_is_answered_the_list_of_another_in_the_same_place() {
        let manager = TaskManager::new();
        for (user, session) in [("alice", "s1"), ("alice", "s2"), ("bob", "s1"), ("bob", "s2")] {
            let meta = TaskMeta::new(user, format!("{user} in {session}")).with_session(session);
            manager.spawn(meta, std::future::pending::<()>()).unwrap();
        }
        let mut tasks = BackgroundTasks::new(manager);
        tasks.api.cache = Arc::new(Cache::with(Limits { lists: 1, ..LIMITS }));
        let router = tasks.router::<()>();
        for round in 0..3 {
            for (user, session, names) in [
                ("alice", "?session_id=s1", &["alice in s1"] as &[&str]),
                ("bob", "?session_id=s1", &["bob in s1"]),
                ("alice", "", &["alice in s1", "alice in s2"]),
                ("bob", "", &["bob in s1", "bob in s2"]),
                ("carol", "", &[]),
                ("bob", "?session_id=s2", &["bob in s2"]),
                ("bob", "?session_id=s3", &[]),
                ("bob", "?session_id=", &[]),
                ("alice", "?session_id=s2", &["alice in s2"]),
            ] {
                // Twice: the second time it is the one that is kept.
                for _ in 0..2 {
                    let request = http::Request::get(format!("/background-tasks{session}"));
                    let request = request.header("X-User-ID", user).body(Body::empty()).unwrap();
                    let body = router.clone().oneshot(request).await.unwrap().into_body();
                    let body = body.collect().await.unwrap().to_bytes();
                    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let found: Vec<_> =
                        list["tasks"].as_array().unwrap().iter().map(|task| &task["tool_name"]).collect();
                    assert_eq!(found, names, "{user} {session} in round {round}");
                }
            }
        }
    }
}
