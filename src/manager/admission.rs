use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::shared::Shared;
use super::table::{Entry, Place};
use super::work::{Seat, Work};
use super::worker::Worker;
use super::{Refused, TaskManager};
use crate::task::{TaskId, TaskMeta, TaskRecord};
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
    pub(crate) fn admit(&self, meta: TaskMeta, seat: &Seat) -> Result<Admission, Refused> {
        let shared = &self.shared;
        let record =
            TaskRecord::running(TaskId::new(), shared.limits.redactor.meta(meta).fit(), SystemTime::now());
        let refused = |refused: Refused| {
            shared.table().counters.refused += 1;
            telemetry::refused(refused.as_str());
            tracing::warn!(
                user_id = record.meta.user_id(),
                tool_name = record.meta.tool_name(),
                reason = %refused,
                "background task refused"
            );
            refused
        };
        if record.meta.exceeds(shared.limits.max_meta_bytes) {
            return Err(refused(Refused::MetaTooLarge));
        }
        let Some(runtime) = shared.runtime() else { return Err(refused(Refused::NoRuntime)) };
        // A shutdown that closes the table afterwards waits for this one too.
        let admitted = shared.table().admit(&shared.limits, &record, seat.call.made());
        let place = admitted.map_err(refused)?;
        Ok(Admission { shared: Arc::clone(shared), runtime, record, place, pending: true })
    }
}

impl Admission {
    pub(crate) const fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Runs the work to its end, in the span of its seat or in the one that is entered.
    pub(crate) fn run<W: Work>(mut self, mut work: Pin<Box<W>>) {
        let last_will = self.shared.bus.is_shared().then(|| {
            // The call is answered already, or its caller has left: a hook that panics must not undo that.
            catch_unwind(AssertUnwindSafe(|| work.last_will(&self.record))).ok().flatten()
        });
        // The caller's span goes along: what the work logs from here on is still found under the request.
        let seat = work.as_mut().seat();
        if !seat.has_span() {
            seat.keep_span();
        }
        // From here on the worker answers for the task, whatever happens.
        self.pending = false;
        let worker = Worker::new(work, Arc::clone(&self.shared), self.place);
        // Before others can know of it, and end it.
        telemetry::offloaded();
        let record = &self.record;
        if self.shared.is_watched() {
            let mut table = self.shared.table();
            // It may have been asked to stop meanwhile.
            let now = table.get_at(self.place).map(Entry::record);
            let now = now.as_ref().unwrap_or(record);
            self.shared.announce(&mut table, now);
            if let Some(mirror) = &self.shared.mirror {
                mirror.begin(now, last_will.flatten());
            }
            drop(table);
            self.shared.tell_changes();
            if let Some(mirror) = &self.shared.mirror {
                mirror.start(&self.shared);
            }
        }
        tracing::info!(
            task_id = %record.id,
            user_id = record.meta.user_id(),
            session_id = record.meta.session_id(),
            tool_name = record.meta.tool_name(),
            call_id = record.meta.call_id(),
            "call moved to the background"
        );
        self.runtime.spawn(worker);
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
