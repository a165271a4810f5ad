use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use async_trait::async_trait;

use super::super::message::Wakeup;
use super::super::{BusError, BusHealth, Delivery, MessageBus, Result, keys, python};
use super::MemoryBus;
use super::stream::{Holder, Kind, Streams};

/// The newest deliveries, so that a repeated one is recognised.
///
/// Kept as 128 bits each and not as texts, because how long those are is up to clients. The hashes are keyed by
/// random numbers of the process, so that no client can make two that collide.
#[derive(Debug)]
pub(super) struct Deliveries {
    seen: HashSet<u128>,
    by_age: VecDeque<u128>,
    max: usize,
    hashers: [RandomState; 2],
}

impl Deliveries {
    pub(super) fn new(max: usize) -> Self {
        Self { seen: HashSet::new(), by_age: VecDeque::new(), max, hashers: Default::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    fn fingerprint(&self, session_id: &str, dedupe_key: &str) -> u128 {
        let [high, low] = &self.hashers;
        let what = (session_id, dedupe_key);
        u128::from(high.hash_one(what)) << 64 | u128::from(low.hash_one(what))
    }

    fn remember(&mut self, fingerprint: u128) {
        self.seen.insert(fingerprint);
        self.by_age.push_back(fingerprint);
        while self.by_age.len() > self.max {
            if let Some(oldest) = self.by_age.pop_front() {
                self.seen.remove(&oldest);
            }
        }
    }
}

#[async_trait]
impl MessageBus for MemoryBus {
    fn is_shared(&self) -> bool {
        self.inner.shared
    }

    fn health(&self) -> BusHealth {
        let losses = self.with_state(|state, _| state.losses());
        BusHealth::connected(None).with_losses(losses.entries + losses.records, losses.refused)
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        let Delivery { user_id, session_id, agent_id, dedupe_key, payload } = delivery;
        let inbox = keys::inbox(session_id);
        let consumer = keys::inbox_consumer(session_id);
        let wakeup = Wakeup::wake(&**user_id, &**session_id, &**agent_id);
        let wakeup = python::to_json(&wakeup).map_err(|error| BusError::new("write a wakeup", error))?;

        let woken = self.with_state(|state, _| {
            let fingerprint = state.deliveries.fingerprint(session_id, dedupe_key);
            if state.deliveries.seen.contains(&fingerprint) {
                return Ok(false);
            }
            let wake = state.hashes.get(&consumer, keys::CONSUMER_RUNNING).is_none();

            // Both or neither: room for the one must not be made by dropping the other.
            let mut cost = Streams::cost(&inbox, payload);
            if wake {
                cost += Streams::cost(user_id, &wakeup);
            }
            state.streams.admit(cost)?;
            let first = state.streams.add(Kind::Queue, Holder::User(user_id), &inbox, payload);
            if wake {
                state.streams.add(Kind::Wakeups, Holder::User(user_id), user_id, &wakeup);
            }
            state.streams.make_room(first);
            state.deliveries.remember(fingerprint);
            Ok(wake)
        })?;
        if woken {
            self.publish_now(keys::WAKEUP_SIGNAL, "{}");
        }
        Ok(woken)
    }

    async fn finish_inbox(&self, session_id: &str) -> Result<bool> {
        let (inbox, consumer) = (keys::inbox(session_id), keys::inbox_consumer(session_id));
        self.with_state(|state, _| {
            // A queue without entries does not exist.
            if state.streams.side(Kind::Queue).get(&inbox).is_some() {
                return Ok(false);
            }
            state.hashes.take(&mut state.budget, &consumer, keys::CONSUMER_RUNNING);
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut deliveries = Deliveries::new(2);
        let prints = ["a", "b", "c"].map(|key| deliveries.fingerprint("s", key));
        for print in prints {
            deliveries.remember(print);
        }
        assert_eq!(prints.map(|print| deliveries.seen.contains(&print)), [false, true, true]);
        assert_eq!((deliveries.seen.len(), deliveries.len()), (2, 2));
    }

    #[test]
    fn where_session_and_key_meet_makes_a_difference() {
        let deliveries = Deliveries::new(2);
        assert_ne!(deliveries.fingerprint("a", "bc"), deliveries.fingerprint("ab", "c"));
        assert_ne!(deliveries.fingerprint("", "a"), deliveries.fingerprint("a", ""));
    }
}
