//! Any calls in any order: the memory bus answers as a few plain maps would, and its accounts come out even.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tower_offload::MemoryBus;
use tower_offload::bus::{EntryId, Lock, Log, MemoryBusStats, Queue, Registry};

/// Keys, fields, values, tokens and seconds are small numbers, so that they meet.
type Ttl = Option<u8>;

#[derive(Clone, Debug)]
enum Call {
    Set(u8, u8, u8, Ttl),
    SetIf(u8, u8, u8, u8, Ttl),
    Remove(u8, u8),
    Take(u8, u8),
    Clear(u8),
    GetAll(u8),
    Push(u8, Ttl),
    Drain(u8, usize),
    Delete(u8),
    Append(u8, Ttl, Option<usize>),
    ReadAfter(u8, usize, usize),
    TrimBefore(u8, Option<usize>),
    Acquire(u8, u8, u8),
    Renew(u8, u8, u8),
    Release(u8, u8),
    Wait(u8),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let key = || 0..3_u8;
    let ttl = || proptest::option::of(0..4_u8);
    let count = || 0..5_usize;
    let call = prop_oneof![
        (key(), key(), key(), ttl()).prop_map(|(k, f, v, t)| Call::Set(k, f, v, t)),
        (key(), key(), key(), key(), ttl()).prop_map(|(k, f, v, e, t)| Call::SetIf(k, f, v, e, t)),
        (key(), key()).prop_map(|(k, f)| Call::Remove(k, f)),
        (key(), key()).prop_map(|(k, f)| Call::Take(k, f)),
        key().prop_map(Call::Clear),
        key().prop_map(Call::GetAll),
        (key(), ttl()).prop_map(|(k, t)| Call::Push(k, t)),
        (key(), count()).prop_map(|(k, n)| Call::Drain(k, n)),
        key().prop_map(Call::Delete),
        (key(), ttl(), proptest::option::of(count())).prop_map(|(k, t, m)| Call::Append(k, t, m)),
        (key(), count(), count()).prop_map(|(k, a, n)| Call::ReadAfter(k, a, n)),
        (key(), proptest::option::of(count())).prop_map(|(k, b)| Call::TrimBefore(k, b)),
        (key(), key(), 0..4_u8).prop_map(|(k, o, t)| Call::Acquire(k, o, t)),
        (key(), key(), 0..4_u8).prop_map(|(k, o, t)| Call::Renew(k, o, t)),
        (key(), key()).prop_map(|(k, o)| Call::Release(k, o)),
        (0..3_u8).prop_map(Call::Wait),
    ];
    proptest::collection::vec(call, 1..120)
}

/// Things by key, each with the second at which it ends.
struct Things<T>(BTreeMap<u8, (T, Option<u64>)>);

impl<T: Default> Things<T> {
    fn expire(&mut self, now: u64) {
        self.0.retain(|_, (_, end)| end.is_none_or(|end| end > now));
    }

    fn get(&self, key: u8) -> Option<&T> {
        self.0.get(&key).map(|(thing, _)| thing)
    }

    fn write(&mut self, key: u8, end: Option<u64>, write: impl FnOnce(&mut T)) {
        let (thing, old) = self.0.entry(key).or_default();
        write(thing);
        *old = end.or(*old);
    }
}

type Stream = VecDeque<EntryId>;

struct Model {
    now: u64,
    last_id: EntryId,
    hashes: Things<BTreeMap<u8, u8>>,
    queues: Things<Stream>,
    logs: Things<Stream>,
    locks: Things<u8>,
}

impl Model {
    fn grows(&mut self, id: EntryId) {
        assert!(id > self.last_id, "{id} after {}", self.last_id);
        self.last_id = id;
    }

    fn expire(&mut self) {
        self.hashes.expire(self.now);
        self.queues.expire(self.now);
        self.logs.expire(self.now);
        self.locks.expire(self.now);
        self.hashes.0.retain(|_, (fields, _)| !fields.is_empty());
        self.queues.0.retain(|_, (queue, _)| !queue.is_empty());
        self.logs.0.retain(|_, (log, _)| !log.is_empty());
    }
}

fn seconds(ttl: impl Into<u64>) -> Duration {
    Duration::from_secs(ttl.into())
}

async fn check(bus: &MemoryBus, model: &mut Model, call: Call) {
    model.expire();
    let ends = |ttl: Ttl| ttl.map(|ttl| model.now + u64::from(ttl));
    let name = |number: u8| number.to_string();
    match call {
        Call::Set(key, field, value, ttl) => {
            let end = ends(ttl);
            bus.set(&name(key), &name(field), &name(value), ttl.map(seconds)).await.unwrap();
            model.hashes.write(key, end, |fields| {
                fields.insert(field, value);
            });
        }
        Call::SetIf(key, field, value, expected, ttl) => {
            let end = ends(ttl);
            let (field_name, value_name) = (name(field), name(value));
            let written = bus
                .set_if(&name(key), &field_name, &value_name, &name(expected), ttl.map(seconds))
                .await
                .unwrap();
            let matches = model.hashes.get(key).and_then(|fields| fields.get(&field)) == Some(&expected);
            assert_eq!(written, matches);
            if matches {
                model.hashes.write(key, end, |fields| {
                    fields.insert(field, value);
                });
            }
        }
        Call::Remove(key, field) => {
            let old = model.hashes.0.get_mut(&key).and_then(|(fields, _)| fields.remove(&field));
            assert_eq!(bus.remove(&name(key), &name(field)).await.unwrap(), old.is_some());
        }
        Call::Take(key, field) => {
            let old = model.hashes.0.get_mut(&key).and_then(|(fields, _)| fields.remove(&field));
            assert_eq!(bus.take(&name(key), &name(field)).await.unwrap(), old.map(name));
        }
        Call::Clear(key) => {
            bus.clear(&name(key)).await.unwrap();
            model.hashes.0.remove(&key);
        }
        Call::GetAll(key) => {
            let mut all = bus.get_all(&name(key)).await.unwrap();
            all.sort();
            let fields = model.hashes.get(key).into_iter().flatten();
            assert_eq!(all, fields.map(|(field, value)| (name(*field), name(*value))).collect::<Vec<_>>());
        }
        Call::Push(key, ttl) => {
            let end = ends(ttl);
            let id = bus.push(&name(key), "{}", ttl.map(seconds)).await.unwrap();
            model.grows(id);
            model.queues.write(key, end, |queue| queue.push_back(id));
        }
        Call::Drain(key, max) => {
            let ids: Vec<_> =
                bus.drain(&name(key), max).await.unwrap().into_iter().map(|entry| entry.id).collect();
            let queue = model.queues.0.get_mut(&key).map(|(queue, _)| queue);
            let expected: Vec<_> =
                queue.map(|queue| queue.drain(..max.min(queue.len())).collect()).unwrap_or_default();
            assert_eq!(ids, expected);
        }
        Call::Delete(key) => {
            bus.delete(&name(key)).await.unwrap();
            model.queues.0.remove(&key);
        }
        Call::Append(key, ttl, max_len) => {
            let end = ends(ttl);
            let id = bus.append(&name(key), "{}", ttl.map(seconds), max_len).await.unwrap();
            model.grows(id);
            model.logs.write(key, end, |log| {
                log.push_back(id);
                while max_len.is_some_and(|max_len| log.len() > max_len) {
                    log.pop_front();
                }
            });
        }
        Call::ReadAfter(key, after, max) => {
            let log = model.logs.get(key).cloned().unwrap_or_default();
            let place = log.get(after).copied();
            let read = bus.read(&name(key), place, max).await.unwrap();
            let ids: Vec<_> = read.into_iter().map(|entry| entry.id).collect();
            let expected = log.into_iter().filter(|id| place.is_none_or(|place| *id > place)).take(max);
            assert_eq!(ids, expected.collect::<Vec<_>>());
        }
        Call::TrimBefore(key, before) => {
            let place = before.map(|place| {
                let id = model.logs.get(key).and_then(|log| log.get(place)).copied();
                id.unwrap_or(EntryId { millis: 0, sequence: 0 })
            });
            bus.trim(&name(key), place).await.unwrap();
            if let Some((log, _)) = model.logs.0.get_mut(&key) {
                log.retain(|id| place.is_some_and(|place| *id >= place));
            }
        }
        Call::Acquire(key, owner, ttl) => {
            let end = ends(Some(ttl));
            let taken = bus.try_acquire(&name(key), &name(owner), seconds(ttl)).await.unwrap();
            assert_eq!(taken, model.locks.get(key).is_none());
            if taken {
                model.locks.write(key, end, |holder| *holder = owner);
            }
        }
        Call::Renew(key, owner, ttl) => {
            let end = ends(Some(ttl));
            let held = bus.renew(&name(key), &name(owner), seconds(ttl)).await.unwrap();
            assert_eq!(held, model.locks.get(key) == Some(&owner));
            if held {
                model.locks.write(key, end, |_| ());
            }
        }
        Call::Release(key, owner) => {
            let held = model.locks.get(key) == Some(&owner);
            assert_eq!(bus.release(&name(key), &name(owner)).await.unwrap(), held);
            if held {
                model.locks.0.remove(&key);
            }
        }
        Call::Wait(time) => {
            tokio::time::advance(seconds(time)).await;
            model.now += u64::from(time);
        }
    }
    model.expire();
    let stats = bus.stats();
    let entries = |things: &Things<Stream>| things.0.values().map(|(stream, _)| stream.len()).sum::<usize>();
    assert_eq!((stats.queues, stats.queued_entries), (model.queues.0.len(), entries(&model.queues)));
    assert_eq!((stats.logs, stats.logged_entries), (model.logs.0.len(), entries(&model.logs)));
    let fields = model.hashes.0.values().map(|(fields, _)| fields.len()).sum::<usize>();
    assert_eq!((stats.namespaces, stats.fields), (model.hashes.0.len(), fields));
    assert_eq!(stats.locks, model.locks.0.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_calls_answer_as_plain_maps_would(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let bus = MemoryBus::new();
            let mut model = Model {
                now: 0,
                last_id: EntryId { millis: 0, sequence: 0 },
                hashes: Things(BTreeMap::new()),
                queues: Things(BTreeMap::new()),
                logs: Things(BTreeMap::new()),
                locks: Things(BTreeMap::new()),
            };
            for call in calls {
                check(&bus, &mut model, call).await;
            }
            tokio::time::advance(seconds(10_u8)).await;
            for key in 0..3_u8 {
                let key = key.to_string();
                bus.clear(&key).await.unwrap();
                bus.delete(&key).await.unwrap();
                bus.trim(&key, None).await.unwrap();
            }
            assert_eq!(bus.stats(), MemoryBusStats::default());
        });
    }
}
