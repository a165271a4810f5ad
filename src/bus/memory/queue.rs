use std::time::Duration;

use async_trait::async_trait;

use super::super::{Entry, EntryId, Queue, Result};
use super::MemoryBus;
use super::stream::{Holder, Kind, Streams};

#[async_trait]
impl Queue for MemoryBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        self.with_state(|state, now| {
            state.streams.admit(Streams::cost(key, payload))?;
            let id = state.streams.push(Kind::Queue, Holder::Program, key, payload);
            state.streams.expire_in(Kind::Queue, key, now, ttl);
            Ok(id)
        })
    }

    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.with_state(|state, _| {
            let mut entries = Vec::new();
            state.streams.cut(Kind::Queue, key, max, |entry| entries.push(entry.into()));
            Ok(entries)
        })
    }

    async fn peek(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        self.with_state(|state, _| {
            let entries = state.streams.side(Kind::Queue).get(key).into_iter().flatten().take(max);
            Ok(entries.map(|entry| Entry { id: entry.id, payload: entry.payload.to_string() }).collect())
        })
    }

    async fn remove_through(&self, key: &str, id: EntryId) -> Result<()> {
        self.with_state(|state, _| {
            let queue = state.streams.side(Kind::Queue).get(key);
            let count = queue.map_or(0, |queue| queue.partition_point(|entry| entry.id <= id));
            state.streams.cut(Kind::Queue, key, count, |_| ());
            Ok(())
        })
    }

    async fn len(&self, key: &str) -> Result<usize> {
        self.with_state(|state, _| {
            Ok(state.streams.side(Kind::Queue).get(key).map_or(0, |queue| queue.len()))
        })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.with_state(|state, _| {
            state.streams.remove(Kind::Queue, key);
            Ok(())
        })
    }
}
