use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::{Lock, Result};
use super::MemoryBus;
use super::limits::{Budget, key_cost};
use super::table::Table;

/// The locks that are held, with the token of the holder. One whose lease has ended does not exist.
#[derive(Debug, Default)]
pub(super) struct Locks {
    table: Table<Box<str>>,
}

fn cost(key: &str, token: &str) -> usize {
    key_cost(key) + token.len()
}

impl Locks {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn is_held_by(&self, key: &str, token: &str) -> bool {
        self.table.get(key).is_some_and(|holder| **holder == *token)
    }

    fn acquire(&mut self, budget: &mut Budget, key: &str, token: &str) -> Result<bool> {
        if self.table.get(key).is_some() {
            return Ok(false);
        }
        budget.exchange("take a lock", 0, cost(key, token))?;
        self.table.insert(key.into(), token.into());
        Ok(true)
    }

    fn remove(&mut self, budget: &mut Budget, key: &str) {
        if let Some(token) = self.table.remove(key) {
            budget.give_back(cost(key, &token));
        }
    }

    pub(super) fn expire(&mut self, budget: &mut Budget, now: Instant) {
        while let Some(key) = self.table.due(now) {
            self.remove(budget, &key);
        }
    }
}

#[async_trait]
impl Lock for MemoryBus {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.with_state(|state, now| {
            let taken = state.with_room("", |state| state.locks.acquire(&mut state.budget, key, token))?;
            if taken {
                state.locks.table.expire_in(key, now, ttl);
            }
            Ok(taken)
        })
    }

    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.with_state(|state, now| {
            let held = state.locks.is_held_by(key, token);
            if held {
                state.locks.table.expire_in(key, now, ttl);
            }
            Ok(held)
        })
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        self.with_state(|state, _| {
            let held = state.locks.is_held_by(key, token);
            if held {
                state.locks.remove(&mut state.budget, key);
            }
            Ok(held)
        })
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.with_state(|state, _| Ok(state.locks.table.get(key).is_some()))
    }
}
