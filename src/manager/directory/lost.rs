//! What becomes of the tasks of a process that is gone, when somebody reads them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::view::View;
use crate::bus::{StoredTask, TaskWrite, TaskWritten};

/// A repair is this much later than what it repairs: at a version that no owner reaches. What a process repairs may be
/// its own, ended and written a moment ago; were it at the same version, the repair would pass for that write.
const REPAIR: u64 = 1 << 32;

/// Between two attempts to tell a session of a lost task.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

impl View<'_> {
    /// Ends the tasks whose owner is gone, for all to see, and has their sessions told.
    pub(super) async fn judge(&self, mut stored: Vec<StoredTask>) -> Vec<StoredTask> {
        let owner = self.mirror.owner();
        let is_lost = |stored: &StoredTask| {
            !stored.record.status.is_terminal()
                && if stored.owner == *owner {
                    !self.mirror.is_own(stored.record.id)
                } else {
                    !stored.owner_alive
                }
        };
        let mut repairs = Vec::new();
        let mut places = Vec::new();
        for (place, stored) in stored.iter_mut().enumerate() {
            if is_lost(stored) {
                let record = stored.record.lost(SystemTime::now());
                repairs.push(TaskWrite {
                    record: Arc::new(record.clone()),
                    version: stored.version + REPAIR,
                    expected_owner: Arc::clone(&stored.owner),
                    position: Some(stored.position),
                    last_will: None,
                });
                places.push(place);
                // Lost it is, even if that cannot be written just now.
                stored.record = record;
            } else if stored.record.status.is_terminal() {
                // Whoever has ended it has not told its session.
                self.tell(stored);
            }
        }
        if repairs.is_empty() {
            return stored;
        }
        let written = match self.shared.bus.write(&self.mirror.lease, &self.mirror.retention, &repairs).await
        {
            Ok(written) => written.tasks,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "lost tasks are not written down as lost yet"
                );
                return stored;
            }
        };
        let mut gone = Vec::new();
        for (place, outcome) in places.into_iter().zip(written) {
            let stored = &mut stored[place];
            match outcome {
                TaskWritten::Written { .. } => {
                    tracing::warn!(task_id = %stored.record.id, "background task lost with its process");
                    self.tell(stored);
                }
                // Its owner, or somebody else, was faster.
                TaskWritten::Refused { found: Some(found) } => *stored = *found,
                TaskWritten::Refused { found: None } => gone.push(stored.record.id),
            }
        }
        stored.retain(|stored| !gone.contains(&stored.record.id));
        stored
    }

    /// Delivers the last will of a lost task, in the background. More than one may do so: it arrives once.
    fn tell(&self, stored: &mut StoredTask) {
        let Some(will) = stored.last_will.take() else { return };
        let Some(runtime) = self.shared.runtime() else { return };
        let record = stored.record.clone();
        if !self.mirror.state().wills.insert(record.id) {
            return;
        }
        let shared = Arc::clone(self.shared);
        runtime.spawn(async move {
            let mut wait = FIRST_RETRY;
            loop {
                let done = match shared.bus.deliver(&will).await {
                    Ok(_) => shared.bus.forget_will(&record).await,
                    Err(error) => Err(error),
                };
                let Err(error) = done else { break };
                tracing::warn!(
                    task_id = %record.id,
                    error = &error as &dyn std::error::Error,
                    "a session is not told yet that its task is lost"
                );
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_RETRY);
            }
            if let Some(mirror) = &shared.mirror {
                mirror.state().wills.remove(&record.id);
            }
        });
    }
}
