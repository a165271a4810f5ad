use std::collections::HashMap;
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
    table: Table<HashMap<Box<str>, Box<str>>>,
    fields: usize,
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
        self.table.get(namespace)?.get(field).map(AsRef::as_ref)
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
            None => self.table.insert(namespace.into(), HashMap::new()),
        };
        if hash.insert(field.into(), value.into()).is_none() {
            self.fields += 1;
        }
        Ok(())
    }

    pub(super) fn expire_in(&mut self, namespace: &str, now: Instant, ttl: Option<Duration>) {
        if let Some(ttl) = ttl {
            self.table.expire_in(namespace, now, ttl);
        }
    }

    pub(super) fn take(&mut self, budget: &mut Budget, namespace: &str, field: &str) -> Option<String> {
        let hash = self.table.get_mut(namespace)?;
        let value = hash.remove(field)?;
        hash.shrink_if_sparse();
        let last = hash.is_empty();
        self.fields -= 1;
        budget.give_back(field_cost(field, &value));
        if last {
            self.clear(budget, namespace);
        }
        Some(value.into())
    }

    fn clear(&mut self, budget: &mut Budget, namespace: &str) {
        if let Some(hash) = self.table.remove(namespace) {
            let fields: usize = hash.iter().map(|(field, value)| field_cost(field, value)).sum();
            budget.give_back(key_cost(namespace) + fields);
            self.fields -= hash.len();
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
            state.hashes.set(&mut state.budget, namespace, field, value)?;
            state.hashes.expire_in(namespace, now, ttl);
            Ok(())
        })
    }

    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.with_state(|state, _| Ok(state.hashes.get(namespace, field).map(str::to_owned)))
    }

    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        self.with_state(|state, _| {
            let fields = state.hashes.table.get(namespace).into_iter().flatten();
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
            state.hashes.set(&mut state.budget, namespace, field, value)?;
            state.hashes.expire_in(namespace, now, ttl);
            Ok(true)
        })
    }

    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        self.with_state(|state, _| Ok(state.hashes.take(&mut state.budget, namespace, field)))
    }
}
