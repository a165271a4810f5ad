use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::news::News;
use super::shared::Shared;
use super::table::{Entry, Place};
use super::work::{CallState, Work};
use super::worker::Worker;
use super::{Refused, TaskManager};
use crate::panics;
use crate::task::{TaskId, TaskMeta, TaskRecord, now};
use crate::telemetry;

/// A place among the running tasks, for work that has not been handed over yet.
///
/// Dropping it gives the place back, as if nothing had been asked.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    runtime: Handle,
    record: TaskRecord,
    place: Place,
    /// The work does not run yet.
    pending: bool,
}

impl TaskManager {
    /// Admits a task, or says why not. Nothing waits: one short lock.
    pub(crate) fn admit(&self, meta: TaskMeta, state: &CallState) -> Result<Admission, Refused> {
        let shared = &self.shared;
        let record = TaskRecord::running(TaskId::new(), shared.limits.redactor.meta(meta).fit(), now());
        let refused = |refused: Refused| {
            shared.table().counters.refused += 1;
            telemetry::refused(refused.as_str());
            // One client can cause as many refusals as it likes.
            shared.log_limits.refused(refused, |left_out| {
                tracing::warn!(
                    user_id = record.meta.user_id(),
                    tool_name = record.meta.tool_name(),
                    reason = %refused,
                    left_out,
                    "background task refused"
                );
            });
            refused
        };
        if record.meta.exceeds(shared.limits.max_meta_bytes) {
            return Err(refused(Refused::MetaTooLarge));
        }
        let Some(runtime) = shared.runtime() else { return Err(refused(Refused::NoRuntime)) };
        // A shutdown that closes the table afterwards waits for this one too.
        let admitted = shared.table().admit(&shared.limits, &record, state.token.made());
        let place = admitted.map_err(refused)?;
        Ok(Admission { shared: Arc::clone(shared), runtime, record, place, pending: true })
    }
}

impl Admission {
    pub(crate) const fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Runs the work to its end, in the span that its state keeps, or in the current one.
    pub(crate) fn run<W: Work>(mut self, mut work: Pin<Box<W>>) {
        let shared = Arc::clone(&self.shared);
        let last_will = shared.mirror.as_ref().and_then(|_| {
            // The call is answered already, or its caller has left: a hook that panics must not undo that.
            panics::catch(|| work.last_will(&self.record)).ok().flatten()
        });
        // The caller's span goes along: what the work logs from here on is still found under the request.
        let state = work.as_mut().state();
        if !state.has_span() {
            state.keep_span();
        }
        // From here on the worker accounts for the task.
        self.pending = false;
        let worker = Worker::new(work, Arc::clone(&shared), self.place);
        // Before another thread can see it, and end it.
        telemetry::offloaded();
        if shared.is_watched() {
            let mut table = shared.table();
            // It may have been asked to stop meanwhile.
            let now = table.get_at(self.place).map(Entry::record);
            let now = now.as_ref().unwrap_or(&self.record);
            shared.announce(&mut table, now);
            if let Some(mirror) = &shared.mirror {
                mirror.begin(now, last_will);
            }
        }
        self.runtime.spawn(worker);
        shared.tell(&News::of_change(true));
        let record = &self.record;
        panics::quietly(|| {
            tracing::info!(
                task_id = %record.id,
                user_id = record.meta.user_id(),
                session_id = record.meta.session_id(),
                tool_name = record.meta.tool_name(),
                call_id = record.meta.call_id(),
                "call moved to the background"
            );
        });
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.pending {
            self.shared.roll_back(self.place);
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("record", &self.record).finish_non_exhaustive()
    }
}
