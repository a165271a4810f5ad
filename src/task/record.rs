use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{FailureReason, TaskId, TaskMeta, TaskStatus};

/// A snapshot of a task, taken when it was read.
///
/// Cloning is cheap, because clones share the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// The task's id.
    pub id: TaskId,
    /// What was called, and by whom.
    pub meta: TaskMeta,
    /// What the task is doing, or how it ended.
    pub status: TaskStatus,
    /// Why it did not complete; `None` while it runs and when it completed.
    pub failure_reason: Option<FailureReason>,
    /// What went wrong, for a failed task: at most 512 characters, without [secrets](crate::redact).
    pub error_summary: Option<Arc<str>>,
    /// When it moved to the background.
    pub started_at: SystemTime,
    /// When it ended; never before `started_at`.
    pub completed_at: Option<SystemTime>,
    /// When it was first asked to stop. A task that is `running` with this set is stopping.
    pub cancel_requested_at: Option<SystemTime>,
}

impl TaskRecord {
    pub(crate) const fn running(id: TaskId, meta: TaskMeta, started_at: SystemTime) -> Self {
        Self {
            id,
            meta,
            status: TaskStatus::Running,
            failure_reason: None,
            error_summary: None,
            started_at,
            completed_at: None,
            cancel_requested_at: None,
        }
    }

    /// The record of the same task, `failed` because the process that ran it is gone.
    pub(crate) fn lost(&self, at: SystemTime) -> Self {
        Self {
            status: TaskStatus::Failed,
            failure_reason: Some(FailureReason::WorkerLost),
            error_summary: Some("the process that ran the task is gone".into()),
            completed_at: Some(at.max(self.started_at)),
            ..self.clone()
        }
    }
}
