//! What has not been written yet, and how that changes.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{State, Verdict};
use crate::bus::TaskWrite;
use crate::task::TaskId;

/// How many entries wait for their removal from the lists of their sessions.
const MAX_UNLISTED: usize = 4096;

/// A task whose end the directory has decided. The manager publishes it after the lock of the mirror is released.
#[derive(Debug)]
#[must_use = "the task reads `running` until its end is published"]
pub(in crate::manager) struct DecidedEnd {
    pub(in crate::manager) id: TaskId,
    verdict: Verdict,
    receiver: Option<oneshot::Sender<Verdict>>,
}

impl DecidedEnd {
    /// Tells the delivery, after the end has been published here.
    pub(in crate::manager) fn tell(self) {
        if let Some(receiver) = self.receiver {
            // An error says that no delivery waits.
            let _ = receiver.send(self.verdict);
        }
    }
}

/// An entry that does not belong on the list of its session any more.
#[derive(Debug)]
pub(in crate::manager) struct Unlisted {
    pub(in crate::manager) list: String,
    pub(in crate::manager) id: TaskId,
}

impl State {
    /// The last record of a task has to be written.
    pub(super) fn mark(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !std::mem::replace(&mut task.dirty, true) {
            self.dirty.push_back(id);
        }
        self.waiting += usize::from(!std::mem::replace(&mut task.waiting, true));
        self.waiting_since.get_or_insert_with(SystemTime::now);
    }

    /// What should be written next.
    pub(in crate::manager) fn take(&mut self, owner: &Arc<str>, max: usize) -> Vec<TaskWrite> {
        let mut batch = Vec::with_capacity(max.min(self.dirty.len()));
        while batch.len() < max {
            let Some(id) = self.dirty.pop_front() else { break };
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.dirty = false;
            batch.push(TaskWrite {
                record: Arc::clone(&task.record),
                version: task.version,
                expected_owner: Arc::clone(owner),
                position: task.position,
                unknown_members: None,
                last_will: task.last_will.clone(),
                must_exist: false,
            });
        }
        batch
    }

    /// The batch could not be written: it goes back to the front. A batch of one task goes to the end: that task may be one
    /// that can never be written, because another program has put something else in its place, and must not keep the others
    /// waiting.
    pub(in crate::manager) fn give_back(&mut self, batch: &[TaskWrite]) {
        for write in batch.iter().rev() {
            let id = write.record.id;
            let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.dirty) else { continue };
            task.dirty = true;
            if batch.len() == 1 {
                self.dirty.push_back(id);
            } else {
                self.dirty.push_front(id);
            }
        }
    }

    /// A write has been made, or can never be made. Returns the task if its end counts now.
    pub(in crate::manager) fn written(
        &mut self,
        write: &TaskWrite,
        position: Option<u64>,
    ) -> Option<DecidedEnd> {
        let id = write.record.id;
        let task = self.tasks.get_mut(&id)?;
        task.written = task.written.max(write.version);
        task.position = position.or(task.position);
        if write.record.status.is_terminal() {
            return self.remove(id, Verdict::Written);
        }
        if task.written == task.version && std::mem::replace(&mut task.waiting, false) {
            self.one_waits_no_more();
        }
        None
    }

    /// Notes an entry that is to be removed from the list of its session. One that finds no room expires with its list.
    pub(in crate::manager) fn unlist(&mut self, entry: Unlisted) {
        if self.unlisted.len() < MAX_UNLISTED {
            self.unlisted.push_back(entry);
        }
    }

    pub(in crate::manager) fn has_unlisted(&self) -> bool {
        !self.unlisted.is_empty()
    }

    /// The entry to remove from the list of its session next.
    pub(in crate::manager) fn next_unlisted(&mut self) -> Option<Unlisted> {
        self.unlisted.pop_front()
    }

    /// Another process has ended the task.
    pub(in crate::manager) fn lost(&mut self, id: TaskId) -> Option<DecidedEnd> {
        self.remove(id, Verdict::Fenced)
    }

    fn remove(&mut self, id: TaskId, verdict: Verdict) -> Option<DecidedEnd> {
        let task = self.tasks.remove(&id)?;
        if task.waiting {
            self.one_waits_no_more();
        }
        Some(DecidedEnd { id, verdict, receiver: task.verdict })
    }

    fn one_waits_no_more(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.waiting_since = None;
        }
    }

    /// The directory had the task once and does not have it any more: it is written again.
    pub(in crate::manager) fn forgotten(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.version += 1;
        self.mark(id);
    }
}
