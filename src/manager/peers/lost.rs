//! The tasks of a process that has died.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::view::View;
use crate::bus::{self, StoredTask, TaskWrite, TaskWritten};
use crate::manager::mirror::{OwnTask, Will};
use crate::manager::shared::{BoxedLoop, Shared};
use crate::panics;
use crate::task::{TaskId, now};

/// A repair is this much later than what it repairs: at a version that no owner reaches. The task may be one that its owner
/// has ended and written a moment ago: at the same version, the repair would pass for that write.
const REPAIR: u64 = 1 << 32;

/// Between two attempts to tell a session of a lost task.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

impl View<'_> {
    /// Ends the tasks whose owner is gone, for all processes, and notes the last wills of their sessions.
    ///
    /// A task that this process knows as its own is never judged, because its table is newer than the read. A task that is
    /// stored as its own, and that it knows neither now nor knew `before` the read, is lost: its write was delayed. A task
    /// whose end cannot be written reads as it is stored, because the next reader, or its owner, may see another end.
    pub(super) async fn judge(&self, mut stored: Vec<StoredTask>, before: &[OwnTask]) -> Vec<StoredTask> {
        let mut repairs = Vec::new();
        let mut places = Vec::new();
        for (place, stored) in stored.iter_mut().enumerate() {
            if stored.record.status.is_terminal() {
                // Its last will may not be delivered yet.
                self.tell(stored);
            } else if self.is_lost(stored, before) {
                repairs.push(TaskWrite {
                    record: Arc::new(stored.record.lost(now())),
                    version: stored.version + REPAIR,
                    expected_owner: Arc::clone(&stored.owner),
                    position: Some(stored.position),
                    unknown_members: stored.unknown_members.clone(),
                    // It may have ended and been dropped since it was read.
                    must_exist: true,
                    last_will: None,
                });
                places.push(place);
            }
        }
        if repairs.is_empty() {
            return stored;
        }
        let Self { shared, mirror } = self;
        let write = async { shared.bus.write(&mirror.lease, &mirror.retention, &repairs).await };
        let written = match bus::caught("end lost tasks", write).await {
            Ok(written) => written.tasks,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                self.shared.log_limits.lost_tasks_not_ended.write(|left_out| {
                    tracing::warn!(error, left_out, "lost tasks cannot be ended for all processes yet");
                });
                return stored;
            }
        };
        let mut gone = Vec::new();
        for ((place, repair), outcome) in places.into_iter().zip(repairs).zip(written) {
            let stored = &mut stored[place];
            match outcome {
                TaskWritten::Written { .. } => {
                    stored.record = Arc::unwrap_or_clone(repair.record);
                    let task_id = stored.record.id;
                    panics::quietly(|| tracing::warn!(%task_id, "background task lost with its process"));
                    self.tell(stored);
                }
                // Its owner, or another process, was faster.
                TaskWritten::Refused { found: Some(found) } => *stored = *found,
                TaskWritten::Refused { found: None } => gone.push(stored.record.id),
            }
        }
        stored.retain(|stored| !gone.contains(&stored.record.id));
        stored
    }

    fn is_lost(&self, stored: &StoredTask, before: &[OwnTask]) -> bool {
        if stored.owner != *self.mirror.owner() {
            return !stored.owner_alive;
        }
        // One that was known before the read may have ended, and its record may have been dropped, since then.
        let was_known = before.iter().any(|own| own.record.id == stored.record.id);
        !was_known && !self.is_known(stored)
    }

    /// Has the last will of a lost task delivered, in the background. Several processes may do so: the bus delivers it
    /// once.
    fn tell(&self, stored: &mut StoredTask) {
        let Some(delivery) = stored.last_will.take() else { return };
        self.mirror.add_will(Will { record: stored.record.clone(), delivery: Arc::new(delivery) });
        self.shared.will_teller.start();
    }
}

/// Delivers the last wills until there is none left. A will that cannot be delivered is tried again and keeps no other one
/// waiting.
pub(in crate::manager) fn run(shared: Weak<Shared>) -> BoxedLoop {
    Box::pin(async move {
        let mut wait = FIRST_RETRY;
        while let Some(manager) = shared.upgrade() {
            let wills = wills(&manager);
            if wills.is_empty() {
                return;
            }
            let before = wills.len();
            let mut left = 0;
            for will in wills {
                if deliver(&manager, &will).await {
                    forget(&manager, will.record.id);
                } else {
                    left += 1;
                }
            }
            // While it waits it keeps no manager alive.
            drop(manager);
            if left == before {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_RETRY);
            } else {
                wait = FIRST_RETRY;
            }
        }
    })
}

fn wills(shared: &Shared) -> Vec<Will> {
    let Some(mirror) = &shared.mirror else { return Vec::new() };
    mirror.state().wills.values().cloned().collect()
}

async fn deliver(shared: &Shared, will: &Will) -> bool {
    let done = bus::caught("deliver a last will", async {
        shared.bus.deliver(&will.delivery).await?;
        shared.bus.forget_will(&will.record).await
    })
    .await;
    if let Err(error) = &done {
        let error = error as &dyn std::error::Error;
        shared.log_limits.last_will_not_delivered.write(|left_out| {
            tracing::warn!(
                task_id = %will.record.id,
                error,
                left_out,
                "a session is not told yet that its task is lost"
            );
        });
    }
    done.is_ok()
}

fn forget(shared: &Shared, id: TaskId) {
    if let Some(mirror) = &shared.mirror {
        mirror.state().wills.remove(&id);
    }
}
