use std::time::Duration;

use async_trait::async_trait;

use super::super::{Entry, EntryId, Log, Result};
use super::MemoryBus;
use super::stream::{Holder, Kind, Streams};

#[async_trait]
impl Log for MemoryBus {
    async fn append(
        &self,
        key: &str,
        payload: &str,
        ttl: Option<Duration>,
        max_len: Option<usize>,
    ) -> Result<EntryId> {
        self.with_state(|state, now| {
            state.streams.admit(Streams::cost(key, payload))?;
            let id = state.streams.push(Kind::Log, Holder::Program, key, payload);
            if let Some(max_len) = max_len {
                // Asked for, so that these do not count as dropped.
                let len = state.streams.side(Kind::Log).get(key).map_or(0, |log| log.len());
                state.streams.cut(Kind::Log, key, len.saturating_sub(max_len), |_| ());
            }
            state.streams.expire_in(Kind::Log, key, now, ttl);
            Ok(id)
        })
    }

    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>> {
        self.with_state(|state, _| {
            let Some(log) = state.streams.side(Kind::Log).get(key) else { return Ok(Vec::new()) };
            let start = after.map_or(0, |after| log.partition_point(|entry| entry.id <= after));
            let entries = log.range(start..).take(max);
            Ok(entries.map(Entry::from).collect())
        })
    }

    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()> {
        self.with_state(|state, _| {
            let count = match (before, state.streams.side(Kind::Log).get(key)) {
                (Some(before), Some(log)) => log.partition_point(|entry| entry.id < before),
                _ => usize::MAX,
            };
            state.streams.cut(Kind::Log, key, count, |_| ());
            Ok(())
        })
    }
}
