use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::directory::{
    Directory, DirectoryWritten, OwnerLease, Retention, StoredTask, TaskCheck, TaskWrite, TaskWritten,
    key_ttl,
};
use super::super::message::RegistryEntry;
use super::super::{BusError, Delivery, Result, keys, python};
use super::limits::{Budget, item_cost, key_cost};
use super::table::Table;
use super::{MemoryBus, State};
use crate::task::{TaskId, TaskRecord};

/// What a record costs beside its texts.
const RECORD_OVERHEAD: usize = 512;

/// The tasks of all users, and the leases of their owners.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    users: Table<UserTasks>,
    /// Until when each owner is.
    owners: Table<()>,
}

#[derive(Debug, Default)]
struct UserTasks {
    tasks: HashMap<TaskId, Slot>,
    /// What has ended, in the order in which it was written.
    ended: VecDeque<TaskId>,
    ended_bytes: usize,
    last_position: u64,
}

#[derive(Debug)]
struct Slot {
    record: Arc<TaskRecord>,
    owner: Arc<str>,
    version: u64,
    position: u64,
    stop_requested_at: Option<SystemTime>,
    unknown_members: Option<Arc<str>>,
    last_will: Option<Arc<Delivery>>,
    cost: usize,
}

impl Slot {
    fn cost(write: &TaskWrite) -> usize {
        let TaskWrite { record, last_will, unknown_members, .. } = write;
        let will = last_will.as_ref().map_or(0, |will| will.payload.len());
        let error = record.error_summary.as_ref().map_or(0, |error| error.len());
        let unknown = unknown_members.as_ref().map_or(0, |members| members.len());
        item_cost(RECORD_OVERHEAD + record.meta.text_bytes() + error + unknown + will)
    }

    fn stored(&self, owners: &Table<()>) -> StoredTask {
        let mut record = TaskRecord::clone(&self.record);
        if !record.status.is_terminal() {
            record.cancel_requested_at = record.cancel_requested_at.or(self.stop_requested_at);
        }
        StoredTask {
            record,
            owner: Arc::clone(&self.owner),
            version: self.version,
            position: self.position,
            unknown_members: self.unknown_members.clone(),
            owner_alive: owners.get(&self.owner).is_some(),
            last_will: self.last_will.as_deref().cloned(),
        }
    }
}

impl UserTasks {
    fn drop_oldest_end(&mut self, budget: &mut Budget) {
        let Some(slot) = self.ended.pop_front().and_then(|id| self.tasks.remove(&id)) else { return };
        self.ended_bytes = self.ended_bytes.saturating_sub(slot.cost);
        budget.give_back(slot.cost);
    }
}

impl Tasks {
    /// Removes the oldest ended task of the user whose ended tasks take most.
    pub(super) fn drop_oldest_end(&mut self, budget: &mut Budget) -> bool {
        let most = self.users.values_mut().max_by_key(|user| user.ended_bytes);
        let Some(user) = most.filter(|user| !user.ended.is_empty()) else { return false };
        user.drop_oldest_end(budget);
        true
    }

    pub(super) fn expire(&mut self, budget: &mut Budget, now: Instant) {
        while let Some(owner) = self.owners.due(now) {
            self.owners.remove(&owner);
            budget.give_back(key_cost(&owner));
        }
        while let Some(user) = self.users.due(now) {
            let gone = self.users.remove(&user);
            let tasks: usize = gone.iter().flat_map(|user| user.tasks.values()).map(|slot| slot.cost).sum();
            budget.give_back(key_cost(&user) + tasks);
        }
    }

    /// Says whether the lease was still there.
    fn renew(&mut self, budget: &mut Budget, lease: &OwnerLease, now: Instant) -> Result<bool> {
        let held = self.owners.get(&lease.owner).is_some();
        if !held {
            budget.exchange("renew a lease", 0, key_cost(&lease.owner))?;
            self.owners.insert(Arc::clone(&lease.owner), ());
        }
        self.owners.expire_in(&lease.owner, now, lease.ttl);
        Ok(held)
    }

    fn write(
        &mut self,
        budget: &mut Budget,
        lease: &OwnerLease,
        retention: &Retention,
        write: &TaskWrite,
    ) -> Result<TaskWritten> {
        let TaskWrite { record, version, expected_owner, position, unknown_members, must_exist, last_will } =
            write;
        let user_id = record.meta.user_id();
        let found = self.users.get(user_id).and_then(|user| user.tasks.get(&record.id));
        match found {
            Some(slot) if slot.owner == lease.owner && slot.version == *version && slot.record == *record => {
                return Ok(TaskWritten::Written { position: slot.position });
            }
            Some(slot)
                if slot.owner == *expected_owner
                    && slot.version < *version
                    && !slot.record.status.is_terminal() => {}
            None if *expected_owner == lease.owner && !must_exist => {}
            found => {
                let found = found.map(|slot| Box::new(slot.stored(&self.owners)));
                return Ok(TaskWritten::Refused { found });
            }
        }
        let own = *expected_owner == lease.owner;
        let old = found.map_or(0, |slot| slot.cost);
        let key = if self.users.get(user_id).is_none() { key_cost(user_id) } else { 0 };
        let cost = Slot::cost(write);
        budget.exchange("write to the directory", old, key + cost)?;
        if self.users.get(user_id).is_none() {
            self.users.insert(record.meta.user_id().into(), UserTasks::default());
        }
        let Some(user) = self.users.get_mut(user_id) else {
            return Err(BusError::new("write to the directory", "the user has just been added"));
        };
        let old = user.tasks.remove(&record.id);
        let position = old.as_ref().map(|slot| slot.position).or(*position);
        let position = position.unwrap_or(user.last_position + 1);
        user.last_position = user.last_position.max(position);
        let terminal = record.status.is_terminal();
        let slot = Slot {
            record: Arc::clone(record),
            owner: Arc::clone(&lease.owner),
            version: *version,
            position,
            unknown_members: unknown_members.clone(),
            stop_requested_at: old.as_ref().and_then(|slot| slot.stop_requested_at),
            last_will: old
                .and_then(|slot| slot.last_will)
                .or_else(|| last_will.clone())
                .filter(|_| !(terminal && own)),
            cost,
        };
        user.tasks.insert(record.id, slot);
        if terminal {
            user.ended.push_back(record.id);
            user.ended_bytes += cost;
            while user.ended.len() > retention.max_per_user as usize {
                user.drop_oldest_end(budget);
            }
        }
        Ok(TaskWritten::Written { position })
    }

    fn stored(&self, user_id: &str) -> Vec<StoredTask> {
        let tasks = self.users.get(user_id).into_iter().flat_map(|user| user.tasks.values());
        let mut tasks: Vec<_> = tasks.map(|slot| slot.stored(&self.owners)).collect();
        tasks.sort_by_key(|task| (task.position, task.record.id));
        tasks
    }
}

impl State {
    fn write_task(
        &mut self,
        now: Instant,
        lease: &OwnerLease,
        retention: &Retention,
        write: &TaskWrite,
    ) -> Result<TaskWritten> {
        let written =
            self.with_room("", |state| state.tasks.write(&mut state.budget, lease, retention, write))?;
        let record = &write.record;
        if matches!(written, TaskWritten::Written { .. }) {
            self.tasks.users.expire_in(record.meta.user_id(), now, key_ttl(retention));
            self.list_in_session(now, record)?;
        }
        Ok(written)
    }

    /// Makes the list of the session what the record says.
    fn list_in_session(&mut self, now: Instant, record: &TaskRecord) -> Result<()> {
        let session = keys::background_tasks(record.meta.session_id());
        let id = record.id.to_string();
        if record.status.is_terminal() {
            self.hashes.take(&mut self.budget, &session, &id);
            return Ok(());
        }
        let entry = python::to_json(&RegistryEntry::of(record));
        let entry = entry.map_err(|error| BusError::new("write a registry entry", error))?;
        self.with_room(&session, |state| state.hashes.set(&mut state.budget, &session, &id, &entry))?;
        self.hashes.expire_in(&session, now, Some(keys::BACKGROUND_TASKS_TTL));
        Ok(())
    }
}

#[async_trait]
impl Directory for MemoryBus {
    async fn write(
        &self,
        lease: &OwnerLease,
        retention: &Retention,
        writes: &[TaskWrite],
    ) -> Result<DirectoryWritten> {
        self.with_state(|state, now| {
            let held = state.with_room("", |state| state.tasks.renew(&mut state.budget, lease, now))?;
            let tasks = writes.iter().map(|write| state.write_task(now, lease, retention, write));
            Ok(DirectoryWritten::new(!held, tasks.collect::<Result<_>>()?))
        })
    }

    async fn tasks(&self, user_id: &str, _: Duration) -> Result<Vec<StoredTask>> {
        self.with_state(|state, _| Ok(state.tasks.stored(user_id)))
    }

    async fn task(&self, user_id: &str, id: TaskId, _: Duration) -> Result<Option<StoredTask>> {
        self.with_state(|state, _| {
            let slot = state.tasks.users.get(user_id).and_then(|user| user.tasks.get(&id));
            Ok(slot.map(|slot| slot.stored(&state.tasks.owners)))
        })
    }

    async fn request_stop(&self, user_id: &str, ids: &[TaskId], at: SystemTime) -> Result<()> {
        self.with_state(|state, _| {
            let Some(user) = state.tasks.users.get_mut(user_id) else { return Ok(()) };
            for id in ids {
                if let Some(slot) = user.tasks.get_mut(id).filter(|slot| !slot.record.status.is_terminal()) {
                    slot.stop_requested_at.get_or_insert(at);
                }
            }
            Ok(())
        })
    }

    async fn check(&self, owner: &str, tasks: &[Arc<TaskRecord>]) -> Result<Vec<TaskCheck>> {
        self.with_state(|state, now| {
            for record in tasks {
                state.list_in_session(now, record)?;
            }
            let directory = &mut state.tasks;
            let check = |record: &Arc<TaskRecord>| {
                let user_id = record.meta.user_id();
                directory.users.prolong(user_id, now, super::super::directory::KEY_SLACK);
                let slot = directory.users.get(user_id).and_then(|user| user.tasks.get(&record.id));
                match slot {
                    None => TaskCheck::Missing,
                    Some(slot) if *slot.owner != *owner || slot.record.status.is_terminal() => {
                        TaskCheck::Lost(Box::new(slot.stored(&directory.owners)))
                    }
                    Some(Slot { stop_requested_at: Some(at), .. }) => TaskCheck::StopRequested(*at),
                    Some(_) => TaskCheck::Held,
                }
            };
            Ok(tasks.iter().map(check).collect())
        })
    }

    async fn forget_will(&self, record: &TaskRecord) -> Result<()> {
        self.with_state(|state, _| {
            let user = state.tasks.users.get_mut(record.meta.user_id());
            if let Some(slot) = user.and_then(|user| user.tasks.get_mut(&record.id)) {
                slot.last_will = None;
            }
            let session = keys::background_tasks(record.meta.session_id());
            state.hashes.take(&mut state.budget, &session, &record.id.to_string());
            Ok(())
        })
    }

    async fn leave(&self, owner: &str) -> Result<()> {
        self.with_state(|state, _| {
            if state.tasks.owners.remove(owner).is_some() {
                state.budget.give_back(key_cost(owner));
            }
            Ok(())
        })
    }
}
