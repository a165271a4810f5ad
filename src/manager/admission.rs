use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, Span};

use super::context::CallToken;
use super::shared::Shared;
use super::worker::{self, BoxError, Ended, Seen, Worker};
use super::{Refused, TaskManager};
use crate::bus::Delivery;
use crate::task::{Settlement, TaskId, TaskMeta, TaskRecord};

/// A place among the running tasks, for work that has not been handed over yet.
///
/// Dropping it gives the place back, as if nothing had been asked.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    runtime: Handle,
    record: TaskRecord,
    /// Counted by a shutdown from now on. `None` once the work runs.
    tracked: Option<TaskTrackerToken>,
}

impl TaskManager {
    /// Admits a task, or says why not. Nothing waits: one short lock.
    pub(crate) fn admit(&self, meta: TaskMeta, call: &mut CallToken) -> Result<Admission, Refused> {
        let shared = &self.shared;
        let record = TaskRecord::running(TaskId::new(), meta.fit(), SystemTime::now());
        let refused = |refused: Refused| {
            shared.table().counters.refused += 1;
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
        let admitted = {
            let mut table = shared.table();
            table.admit(&shared.limits, &record, call.get().clone()).map(|()| {
                // With the table locked: a shutdown that closes it afterwards waits for this one too.
                shared.tracker.token()
            })
        };
        let tracked = admitted.map_err(refused)?;
        Ok(Admission { shared: Arc::clone(shared), runtime, record, tracked: Some(tracked) })
    }
}

impl Admission {
    pub(crate) const fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Runs the work to its end, in `span` or in the one that is entered. `last_will` is delivered by another process,
    /// should this one die. `classify` and `deliver` are called at most
    /// once each: `classify` when the work has returned, `deliver` for whatever end the record shows by then. A delivery
    /// that tells others waits until the end can be seen; it is dropped if they see another one.
    pub(crate) fn run<F, C, D, DF>(
        mut self,
        work: Pin<Box<F>>,
        call: CallToken,
        span: Option<Span>,
        last_will: Option<Delivery>,
        classify: C,
        deliver: D,
    ) -> TaskRecord
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
        C: FnOnce(&F::Output) -> Settlement + Send + 'static,
        D: FnOnce(TaskRecord, Ended<F::Output>, Seen) -> DF + Send + 'static,
        DF: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        // From here on the worker answers for the task, whatever happens.
        let tracked = self.tracked.take();
        let worker = Worker::new(Arc::clone(&self.shared), self.record.id, call.moved(), tracked);
        let record = {
            let mut table = self.shared.table();
            // It may have been asked to stop meanwhile.
            let record = table.start(self.record.id).unwrap_or_else(|| self.record.clone());
            self.shared.announce(&mut table, &record);
            if let Some(mirror) = &self.shared.mirror {
                mirror.begin(&record, last_will);
            }
            record
        };
        self.shared.tell_changes();
        if let Some(mirror) = &self.shared.mirror {
            mirror.start(&self.shared);
        }
        tracing::info!(
            task_id = %record.id,
            user_id = record.meta.user_id(),
            session_id = record.meta.session_id(),
            tool_name = record.meta.tool_name(),
            call_id = record.meta.call_id(),
            "call moved to the background"
        );
        // The caller's span goes along: what the work logs from here on is still found under the request.
        let span = span.unwrap_or_else(Span::current);
        self.runtime.spawn(worker::run(work, worker, classify, deliver).instrument(span));
        record
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.tracked.is_some() {
            let never_ran = self.shared.table().roll_back(self.record.id);
            // Without the lock: it tells those who wait for the task.
            drop(never_ran);
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("record", &self.record).finish_non_exhaustive()
    }
}
