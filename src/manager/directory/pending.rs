//! What has not been written yet, and how that changes.

use std::sync::Arc;
use std::time::SystemTime;

use super::{State, Verdict};
use crate::bus::TaskWrite;
use crate::task::TaskId;

impl State {
    pub(super) fn mark(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !std::mem::replace(&mut task.dirty, true) {
            self.dirty.push_back(id);
        }
        self.waiting += usize::from(!std::mem::replace(&mut task.waiting, true));
        self.waiting_since.get_or_insert_with(SystemTime::now);
    }

    /// What should be written next.
    pub(super) fn take(&mut self, owner: &Arc<str>, max: usize) -> Vec<TaskWrite> {
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
                last_will: task.last_will.clone(),
            });
        }
        batch
    }

    /// It could not be written: it goes back to the front. One alone goes to the end: it may be one that never can be
    /// written, because of what somebody else has put in its place, and must not keep the others waiting.
    pub(super) fn give_back(&mut self, batch: &[TaskWrite]) {
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

    pub(super) fn written(&mut self, write: &TaskWrite, position: u64) {
        let id = write.record.id;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.written = task.written.max(write.version);
        task.position = Some(position);
        if write.record.status.is_terminal() {
            self.remove(id, Verdict::Written);
        } else if task.written == task.version && std::mem::replace(&mut task.waiting, false) {
            self.one_waits_no_more();
        }
    }

    /// Somebody else has ended it.
    pub(super) fn lost(&mut self, id: TaskId) {
        self.remove(id, Verdict::Fenced);
    }

    fn remove(&mut self, id: TaskId, verdict: Verdict) {
        let Some(task) = self.tasks.remove(&id) else { return };
        if task.waiting {
            self.one_waits_no_more();
        }
        if let Some(waits) = task.verdict {
            // An error says that nobody waits.
            let _ = waits.send(verdict);
        }
    }

    fn one_waits_no_more(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.waiting_since = None;
        }
    }

    /// It was written once, and is not there any more.
    pub(super) fn forgotten(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.version += 1;
        self.mark(id);
    }
}
