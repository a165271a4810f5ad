use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::{Registry, Result};
use super::MemoryBus;
use super::limits::{Budget, Shrink, item_cost, key_cost};
use super::table::Table;

/// The hashes of the registry. One without fields does not exist.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    table: Table<Hash>,
    fields: usize,
    /// Those that will expire, by their last write: at the limit of bytes the first one goes.
    by_age: BTreeMap<u64, Arc<str>>,
    writes: u64,
}

#[derive(Debug, Default)]
struct Hash {
    fields: HashMap<Box<str>, Box<str>>,
    /// Its place in `by_age`.
    age: Option<u64>,
}

fn field_cost(field: &str, value: &str) -> usize {
    item_cost(field.len() + value.len())
}

impl Hashes {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) const fn fields(&self) -> usize {
        self.fields
    }

    pub(super) fn get(&self, namespace: &str, field: &str) -> Option<&str> {
        self.table.get(namespace)?.fields.get(field).map(AsRef::as_ref)
    }

    pub(super) fn set(
        &mut self,
        budget: &mut Budget,
        namespace: &str,
        field: &str,
        value: &str,
    ) -> Result<()> {
        let old = self.get(namespace, field).map_or(0, |value| field_cost(field, value));
        let key = if self.table.get(namespace).is_none() { key_cost(namespace) } else { 0 };
        budget.exchange("write to the registry", old, key + field_cost(field, value))?;

        let hash = match self.table.get_mut(namespace) {
            Some(hash) => hash,
            None => self.table.insert(namespace.into(), Hash::default()),
        };
        if hash.fields.insert(field.into(), value.into()).is_none() {
            self.fields += 1;
        }
        if hash.age.is_some() {
            self.touch(namespace);
        }
        Ok(())
    }

    /// Puts a hash that will expire behind all others.
    fn touch(&mut self, namespace: &str) {
        let Some(hash) = self.table.get_mut(namespace) else { return };
        let known = hash.age.and_then(|age| self.by_age.remove(&age));
        self.writes += 1;
        hash.age = Some(self.writes);
        self.by_age.insert(self.writes, known.unwrap_or_else(|| namespace.into()));
    }

    /// Removes the hash that will expire and that was written longest ago, but not `keep`.
    pub(super) fn drop_oldest(&mut self, budget: &mut Budget, keep: &str) -> bool {
        let oldest = self.by_age.values().find(|namespace| ***namespace != *keep);
        let Some(namespace) = oldest.cloned() else { return false };
        self.clear(budget, &namespace);
        true
    }

    pub(super) fn expire_in(&mut self, namespace: &str, now: Instant, ttl: Option<Duration>) {
        let Some(ttl) = ttl else { return };
        self.table.expire_in(namespace, now, ttl);
        if now.checked_add(ttl).is_some() {
            self.touch(namespace);
        } else if let Some(age) = self.table.get_mut(namespace).and_then(|hash| hash.age.take()) {
            // It lives for good now.
            self.by_age.remove(&age);
        }
    }

    pub(super) fn take(&mut self, budget: &mut Budget, namespace: &str, field: &str) -> Option<String> {
        let hash = self.table.get_mut(namespace)?;
        let value = hash.fields.remove(field)?;
        hash.fields.shrink_if_sparse();
        let last = hash.fields.is_empty();
        self.fields -= 1;
        budget.give_back(field_cost(field, &value));
        if last {
            self.clear(budget, namespace);
        }
        Some(value.into())
    }

    fn clear(&mut self, budget: &mut Budget, namespace: &str) {
        if let Some(hash) = self.table.remove(namespace) {
            let fields: usize = hash.fields.iter().map(|(field, value)| field_cost(field, value)).sum();
            budget.give_back(key_cost(namespace) + fields);
            self.fields -= hash.fields.len();
            if let Some(age) = hash.age {
                self.by_age.remove(&age);
            }
        }
    }

    pub(super) fn expire(&mut self, budget: &mut Budget, now: Instant) {
        while let Some(namespace) = self.table.due(now) {
            self.clear(budget, &namespace);
        }
    }
}

#[async_trait]
impl Registry for MemoryBus {
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        self.with_state(|state, now| {
            state
                .with_room(namespace, |state| state.hashes.set(&mut state.budget, namespace, field, value))?;
            state.hashes.expire_in(namespace, now, ttl);
            Ok(())
        })
    }

    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.with_state(|state, _| Ok(state.hashes.get(namespace, field).map(str::to_owned)))
    }

    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        self.with_state(|state, _| {
            let fields = state.hashes.table.get(namespace).into_iter().flat_map(|hash| &hash.fields);
            Ok(fields.map(|(field, value)| (field.to_string(), value.to_string())).collect())
        })
    }

    async fn contains(&self, namespace: &str, field: &str) -> Result<bool> {
        self.with_state(|state, _| Ok(state.hashes.get(namespace, field).is_some()))
    }

    async fn remove(&self, namespace: &str, field: &str) -> Result<bool> {
        self.with_state(|state, _| Ok(state.hashes.take(&mut state.budget, namespace, field).is_some()))
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.with_state(|state, _| {
            state.hashes.clear(&mut state.budget, namespace);
            Ok(())
        })
    }

    async fn set_if(
        &self,
        namespace: &str,
        field: &str,
        value: &str,
        expected: &str,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.with_state(|state, now| {
            if state.hashes.get(namespace, field) != Some(expected) {
                return Ok(false);
            }
            state
                .with_room(namespace, |state| state.hashes.set(&mut state.budget, namespace, field, value))?;
            state.hashes.expire_in(namespace, now, ttl);
            Ok(true)
        })
    }

    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.with_state(|state, _| Ok(state.hashes.take(&mut state.budget, namespace, field)))
    }
}
