//! The tasks of all processes, read from the directory and completed with what is known here first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bus::message::{SessionSignal, TaskCancel};
use crate::bus::{self, BusError, StoredTask, keys};
use crate::manager::answers::StopOutcome;
use crate::manager::mirror::{DecidedEnd, Mirror, OwnTask};
use crate::manager::shared::Shared;
use crate::manager::table::Entry;
use crate::task::{Scope, TaskId, TaskRecord, now};

/// Between two looks at a task that another process runs.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Reads the view of all processes. Each method but [`wait`](Self::wait) takes two round trips at most.
pub(in crate::manager) struct View<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) mirror: &'a Mirror,
}

impl<'a> View<'a> {
    /// `None`: there are no other processes.
    pub(in crate::manager) fn of(shared: &'a Arc<Shared>) -> Option<Self> {
        shared.mirror().map(|mirror| Self { shared, mirror })
    }

    /// The tasks of a scope, in one order for all processes.
    pub(in crate::manager) async fn list(&self, scope: &Scope) -> bus::Result<Vec<TaskRecord>> {
        let user_id = user_of(scope)?;
        // Before reading: what ends meanwhile is still known.
        let mut own = self.mirror.own(self.shared.fresh_table().iter(scope).map(Entry::id));
        let stored = self.stored_tasks(user_id).await?;
        let mut tasks = Vec::with_capacity(stored.len() + own.len());
        let stored = self.judge(stored, &own).await;
        for stored in stored {
            if !scope.contains(&stored.record.meta) {
                continue;
            }
            let known = own.iter().position(|own| own.record.id == stored.record.id);
            let position = stored.position;
            tasks.push((position, self.newer(known.map(|known| own.swap_remove(known)), stored)));
        }
        // What is not there yet comes last, or where it was before the bus lost it.
        own.sort_by_key(|own| own.record.started_at);
        tasks.extend(
            own.into_iter().map(|own| (own.position.unwrap_or(u64::MAX), TaskRecord::clone(&own.record))),
        );
        tasks.sort_by_key(|(position, _)| *position);
        let at = now();
        let keep = |record: &TaskRecord| !self.is_over(record, at);
        Ok(tasks.into_iter().map(|(_, record)| record).filter(keep).collect())
    }

    /// One task.
    pub(in crate::manager) async fn get(&self, scope: &Scope, id: TaskId) -> bus::Result<Option<TaskRecord>> {
        let mut own = self.own(scope, id);
        let user_id = match user_of(scope) {
            Ok(user_id) => user_id,
            // Only its owner can be sure of a session alone.
            Err(error) => return own.pop().map(|own| Some(TaskRecord::clone(&own.record))).ok_or(error),
        };
        let stored = self.stored_task(user_id, id).await?;
        let stored = self.judge(stored.into_iter().collect(), &own).await.pop();
        let stored = stored.filter(|stored| scope.contains(&stored.record.meta));
        let record = match (own.pop(), stored) {
            (own, Some(stored)) => Some(self.newer(own, stored)),
            (own, None) => own.map(|own| TaskRecord::clone(&own.record)),
        };
        let at = now();
        Ok(record.filter(|record| !self.is_over(record, at)))
    }

    /// The end of a task that another process runs.
    pub(in crate::manager) async fn wait(
        &self,
        scope: &Scope,
        id: TaskId,
    ) -> bus::Result<Option<TaskRecord>> {
        let mut pause = FIRST_LOOK;
        loop {
            match self.get(scope, id).await? {
                Some(record) if !record.status.is_terminal() => {}
                ended => return Ok(ended),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// Asks another process to stop a task.
    pub(in crate::manager) async fn stop(&self, scope: &Scope, id: TaskId) -> bus::Result<StopOutcome> {
        if scope.is_empty() {
            return Ok(StopOutcome::NotFound);
        }
        let Some(user_id) = scope.user_id() else {
            // The directory is by user; the list of a session is not.
            return self.stop_foreign(scope, &id.to_string()).await;
        };
        let own = self.own(scope, id);
        let stored = self.stored_task(user_id, id).await?;
        // A task that the user's part of the directory lacks can be another user's, in a session of the same name. So the
        // session is not asked.
        let Some(stored) = self.judge(stored.into_iter().collect(), &own).await.pop() else {
            return Ok(StopOutcome::NotFound);
        };
        let record = stored.record;
        if !scope.contains(&record.meta) {
            return Ok(StopOutcome::NotFound);
        }
        if record.status.is_terminal() {
            return Ok(StopOutcome::AlreadyFinished(record));
        }
        self.note_stop(user_id, &[id]).await?;
        self.publish_stop(scope, &id.to_string()).await?;
        Ok(StopOutcome::RequestedElsewhere)
    }

    /// Asks the process that runs a task to stop it. The task is known by its session alone, as those of AgentScope are.
    pub(in crate::manager) async fn stop_foreign(&self, scope: &Scope, id: &str) -> bus::Result<StopOutcome> {
        if scope.is_empty() {
            return Ok(StopOutcome::NotFound);
        }
        let Some(session_id) = scope.session_id() else { return Ok(StopOutcome::NotFound) };
        let list = keys::background_tasks(session_id);
        let bus = &self.shared.bus;
        if !bus::caught("look up a task", async { bus.contains(&list, id).await }).await? {
            return Ok(StopOutcome::NotFound);
        }
        self.publish_stop(scope, id).await?;
        Ok(StopOutcome::RequestedElsewhere)
    }

    async fn publish_stop(&self, scope: &Scope, id: &str) -> bus::Result<()> {
        let cancel = TaskCancel {
            task_id: id.to_owned(),
            session_id: scope.session_id().map(str::to_owned),
            user_id: scope.user_id().map(str::to_owned),
        };
        let payload =
            serde_json::to_string(&cancel).map_err(|error| BusError::new("write a cancel", error))?;
        self.publish(keys::TASK_CANCEL, &payload).await
    }

    /// Asks the other processes to stop all that is in the scope, and says how many tasks that are.
    pub(in crate::manager) async fn stop_all(&self, scope: &Scope) -> bus::Result<usize> {
        if scope.is_empty() {
            return Ok(0);
        }
        let elsewhere = match scope.user_id() {
            Some(user_id) => {
                let own = self.mirror.own(self.shared.fresh_table().iter(scope).map(Entry::id));
                let stored = self.stored_tasks(user_id).await?;
                let stored = self.judge(stored, &own).await;
                let running = stored.into_iter().filter(|stored| {
                    !stored.record.status.is_terminal()
                        && scope.contains(&stored.record.meta)
                        && stored.owner != *self.mirror.owner()
                });
                let ids: Vec<_> = running.map(|stored| stored.record.id).collect();
                if !ids.is_empty() {
                    self.note_stop(user_id, &ids).await?;
                }
                if scope.session_id().is_none() {
                    for id in &ids {
                        self.publish_stop(scope, &id.to_string()).await?;
                    }
                }
                ids.len()
            }
            None => 0,
        };
        let Some(session_id) = scope.session_id() else { return Ok(elsewhere) };
        let elsewhere = match scope.user_id() {
            Some(_) => elsewhere,
            // The list of the session has them all, whichever process runs them.
            None => {
                let list = keys::background_tasks(session_id);
                let bus = &self.shared.bus;
                let listed = bus::caught("list a session", async { bus.get_all(&list).await }).await?;
                let table = self.shared.fresh_table();
                let here = |id: &str| TaskId::canonical(id).is_some_and(|id| table.get(scope, id).is_some());
                listed.iter().filter(|(id, _)| !here(id)).count()
            }
        };
        let signal =
            SessionSignal { session_id: session_id.to_owned(), user_id: scope.user_id().map(str::to_owned) };
        let payload =
            serde_json::to_string(&signal).map_err(|error| BusError::new("write a cancel", error))?;
        self.publish(keys::SESSION_CANCEL, &payload).await?;
        Ok(elsewhere)
    }

    async fn stored_tasks(&self, user_id: &str) -> bus::Result<Vec<StoredTask>> {
        let Self { shared, mirror } = self;
        bus::caught("read the directory", async { shared.bus.tasks(user_id, mirror.ttl()).await }).await
    }

    async fn stored_task(&self, user_id: &str, id: TaskId) -> bus::Result<Option<StoredTask>> {
        let Self { shared, mirror } = self;
        bus::caught("read the directory", async { shared.bus.task(user_id, id, mirror.ttl()).await }).await
    }

    async fn note_stop(&self, user_id: &str, ids: &[TaskId]) -> bus::Result<()> {
        let bus = &self.shared.bus;
        let note = async { bus.request_stop(user_id, ids, now()).await };
        bus::caught("ask for a stop", note).await
    }

    async fn publish(&self, channel: &str, payload: &str) -> bus::Result<()> {
        let bus = &self.shared.bus;
        bus::caught("publish a cancel", async { bus.publish(channel, payload).await }).await
    }

    /// The later one of what is known here and what is stored.
    fn newer(&self, own: Option<OwnTask>, stored: StoredTask) -> TaskRecord {
        match own {
            Some(_) if stored.owner != *self.mirror.owner() => {
                // Another process has taken this one for dead, and has ended the task.
                let ended = self.lost(stored.record.id);
                self.shared.adopt(&stored.record);
                if let Some(ended) = ended {
                    ended.tell();
                }
                stored.record
            }
            _ if stored.record.status.is_terminal() => stored.record,
            // It may have ended since it was read.
            own => self.ended_here(&stored).unwrap_or_else(|| match own {
                Some(own) if own.version > stored.version => TaskRecord::clone(&own.record),
                _ => stored.record,
            }),
        }
    }

    /// A task of this process whose end is not written, or nothing.
    fn own(&self, scope: &Scope, id: TaskId) -> Vec<OwnTask> {
        let table = self.shared.fresh_table();
        self.mirror.own(table.get(scope, id).map(Entry::id).into_iter())
    }

    fn lost(&self, id: TaskId) -> Option<DecidedEnd> {
        self.mirror.state().lost(id)
    }

    /// Whether this process runs a task, or knows how it has ended.
    pub(super) fn is_known(&self, stored: &StoredTask) -> bool {
        let scope = Scope::user(stored.record.meta.user_id());
        self.mirror.has(stored.record.id) || self.shared.table().get(&scope, stored.record.id).is_some()
    }

    /// The end of a task of this process, if its record is still retained.
    fn ended_here(&self, stored: &StoredTask) -> Option<TaskRecord> {
        let scope = Scope::user(stored.record.meta.user_id());
        let record = self.shared.fresh_table().get(&scope, stored.record.id).map(Entry::record)?;
        record.status.is_terminal().then_some(record)
    }

    /// Whether the retention has ended its time.
    fn is_over(&self, record: &TaskRecord, now: SystemTime) -> bool {
        let ended = record.completed_at.and_then(|at| now.duration_since(at).ok());
        ended.zip(self.mirror.retention.time).is_some_and(|(ended, keep)| ended >= keep)
    }
}

/// The directory is by user.
fn user_of(scope: &Scope) -> bus::Result<&str> {
    scope.user_id().ok_or_else(|| {
        let reason =
            "several processes share the tasks, and their directory is by user: the scope has to name one";
        BusError::new("read the tasks of a session of whatever user", reason)
    })
}
