use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::TaskManager;
use super::limits::Limits;
use super::redactor::Redactor;
use super::shared::{Loops, Shared};
use super::{janitor, peers};
use crate::bus::{LONGEST_LEASE, MemoryBus, SharedBus};
use crate::telemetry;

const LOOPS: Loops =
    Loops { janitor: janitor::run, keeper: peers::keeper::run, will_teller: peers::lost::run };

/// Builds a [`TaskManager`]. Every limit has a default that suits one process.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct TaskManagerBuilder {
    limits: Limits,
    bus: Option<SharedBus>,
    runtime: Option<Handle>,
}

impl TaskManagerBuilder {
    /// How many tasks may run in the background at once. Tasks that have ended count until other processes can see that, and
    /// until their result is delivered. Default: 65,536.
    pub fn max_running(mut self, tasks: u32) -> Self {
        // Indexes into the table are `u32`, and finished tasks need some too.
        self.limits.max_running = tasks.min(u32::MAX / 2);
        self
    }

    /// How many of them may belong to one user, counted in the same way. Default: 16,384.
    pub fn max_running_per_user(mut self, tasks: u32) -> Self {
        self.limits.max_running_per_user = tasks;
        self
    }

    /// How long a task may run in the background; then it is asked to stop, and after the
    /// [grace time](Self::cancel_grace) it is dropped and `failed` with the reason `timed_out`. Default: no limit.
    pub fn max_run_time(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.max_run_time = limit.into();
        self
    }

    /// How long a task that was asked to stop may take to end by itself before its future is dropped. Default:
    /// none, it is dropped at once.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.limits.cancel_grace = grace;
        self
    }

    /// How long a delivery may take, from when the end of its task can be seen by all processes; then it is dropped, logged
    /// and counted as [undelivered](super::TaskManagerStats::undelivered). `None`: as long as it likes. While a delivery
    /// runs, its task counts against the limits on running tasks. Default: 24 hours, as long as the record is kept by
    /// default.
    pub fn max_delivery_time(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.max_delivery_time = limit.into();
        self
    }

    /// How many finished tasks of one user are kept; beyond that the one that ended first is dropped. Default: 50.
    pub fn max_retained_per_user(mut self, tasks: u32) -> Self {
        self.limits.max_retained_per_user = tasks;
        self
    }

    /// How many finished tasks of all users together are kept; beyond that the one that ended first is dropped.
    /// Default: 100,000.
    pub fn max_retained(mut self, tasks: u32) -> Self {
        self.limits.max_retained = tasks.min(u32::MAX / 2);
        self
    }

    /// How long a finished task is kept; `None` for as long as there is room. Default: 24 hours.
    pub fn retain_for(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.limits.retain_for = time.into();
        self
    }

    /// How many bytes of results are kept, of all users together. When a new result does not fit, older results of
    /// its own user make room; if that would not be enough it is not kept. Records stay in any case. Default: 64 MiB.
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_result_bytes = bytes;
        self
    }

    /// How many of them may belong to one user. Default: 8 MiB.
    pub fn max_result_bytes_per_user(mut self, bytes: usize) -> Self {
        self.limits.max_result_bytes_per_user = bytes;
        self
    }

    /// How large the result of one task may be, in bytes; a larger one is not kept. Default: 1 MiB.
    pub fn max_result_bytes_per_task(mut self, bytes: usize) -> Self {
        self.limits.max_result_bytes_per_task = bytes;
        self
    }

    /// How many bytes all texts of one [`TaskMeta`](crate::TaskMeta) may have together; a call with more is not
    /// admitted. Default: 8 KiB.
    pub fn max_meta_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_meta_bytes = bytes;
        self
    }

    /// How long other processes take this one for alive without a renewal; for a
    /// [shared](crate::bus::MessageBus::is_shared) bus. It is renewed three times as often. A process that was silent for
    /// longer is taken for dead: its running tasks are `failed` with the reason `worker_lost` for good. Default: 15
    /// seconds; at least 100 ms, and at most five minutes. A process needs up to two seconds to reach
    /// a bus that was away: with a lease of less than about four seconds, the process that reaches it first may take the
    /// others for dead.
    pub fn lease(mut self, time: Duration) -> Self {
        self.limits.lease = time.clamp(Duration::from_millis(100), LONGEST_LEASE);
        self
    }

    /// The rule for secrets in what the manager stores and logs. Default: [`redact`](crate::redact).
    ///
    /// `rule` gets the text of an error (of a failure, a panic, or a delivery that fails) and returns the text to show. The
    /// manager keeps the first 512 characters of that. Of a longer text, `rule` gets only the beginning.
    ///
    /// `rule` also gets each summary. It does not replace the default rule for summaries that the crate makes:
    /// [`summarize`](crate::summarize) and the describer of the feature `http` apply the default first. To apply another
    /// rule alone, make the summary with [`summarize_with`](crate::summarize_with).
    ///
    /// To extend the default, call it in the rule:
    ///
    /// ```
    /// use tower_offload::{TaskManager, redact};
    ///
    /// let manager = TaskManager::builder()
    ///     .redact(|text| redact(text).replace("internal.example", "[host]"))
    ///     .build();
    /// # drop(manager);
    /// ```
    ///
    /// The manager calls `rule` outside of all locks, on the thread that ends or admits the task, so it should be quick. If
    /// it panics, the manager shows `[redacted]`. It shows records of other processes as those have stored them.
    pub fn redact(mut self, rule: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.limits.redactor = Redactor::new(rule);
        self
    }

    /// The message bus. Default: a [`MemoryBus`] of its own.
    pub fn bus(mut self, bus: SharedBus) -> Self {
        self.bus = Some(bus);
        self
    }

    /// The runtime that background tasks run on. Default: the runtime of the call. It has to outlive the calls: a task that is
    /// handed to a runtime that has ended is lost. The deadline of a call is timed on the runtime of the call in any case.
    ///
    /// Without a time driver on that runtime, tasks and deliveries have no limit on their time and no grace time.
    ///
    /// What the manager does in the background, such as writing to a shared bus, needs a runtime with a time driver. It runs
    /// on this one, or on any other that the manager is used on: one with threads of its own is preferred to a
    /// `current_thread` runtime, which stands still between two calls of `block_on`. When its runtime ends or stands still
    /// it goes on on another one.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The manager. Needs no runtime yet.
    #[must_use]
    pub fn build(self) -> TaskManager {
        telemetry::describe();
        let bus = self.bus.unwrap_or_else(|| Arc::new(MemoryBus::new()));
        TaskManager { shared: Shared::new(self.limits, bus, self.runtime, &LOOPS) }
    }
}
