use std::time::Duration;

use async_trait::async_trait;

use super::super::{Entry, EntryId, Queue, Result, keys};
use super::MemoryBus;
use super::stream::{Holder, Kind, Streams};

#[async_trait]
impl Queue for MemoryBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        self.with_state(|state, now| {
            if key == keys::WAKEUPS {
                let id = state.streams.push_wakeup(payload)?;
                state.streams.expire_wakeups_in(now, ttl);
                return Ok(id);
            }
            state.streams.admit(Streams::cost(key, payload))?;
            let id = state.streams.push(Kind::Queue, Holder::Program, key, payload);
            state.streams.expire_in(Kind::Queue, key, now, ttl);
            Ok(id)
        })
    }

    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.with_state(|state, _| {
            if key == keys::WAKEUPS {
                return Ok(state.streams.drain_wakeups(max));
            }
            let mut entries = Vec::new();
            state.streams.cut(Kind::Queue, key, max, |entry| entries.push(entry.into()));
            Ok(entries)
        })
    }

    async fn peek(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.with_state(|state, _| {
            if key == keys::WAKEUPS {
                return Ok(state.streams.peek_wakeups(max));
            }
            let entries = state.streams.side(Kind::Queue).get(key).into_iter().flatten().take(max);
            Ok(entries.map(Entry::from).collect())
        })
    }

    async fn remove_through(&self, key: &str, id: EntryId) -> Result<()> {
        self.with_state(|state, _| {
            if key == keys::WAKEUPS {
                state.streams.remove_wakeups_through(id);
                return Ok(());
            }
            let queue = state.streams.side(Kind::Queue).get(key);
            let count = queue.map_or(0, |queue| queue.partition_point(|entry| entry.id <= id));
            state.streams.cut(Kind::Queue, key, count, |_| ());
            Ok(())
        })
    }

    async fn len(&self, key: &str) -> Result<usize> {
        self.with_state(|state, _| {
            if key == keys::WAKEUPS {
                return Ok(state.streams.side(Kind::Wakeups).entries());
            }
            Ok(state.streams.side(Kind::Queue).get(key).map_or(0, |queue| queue.len()))
        })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.with_state(|state, _| {
            if key == keys::WAKEUPS {
                state.streams.drain_wakeups(usize::MAX);
            }
            state.streams.remove(Kind::Queue, key);
            Ok(())
        })
    }
}
