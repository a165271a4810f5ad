//! The names of what is counted, for the recorder of the [`metrics`](https://docs.rs/metrics) facade.
//!
//! The program installs the recorder, such as an exporter for Prometheus; without one nothing is counted. All managers
//! and layers of a process count together.
//!
//! | name | kind | labels | what |
//! | --- | --- | --- | --- |
//! | [`tower_offload_foreground_total`](FOREGROUND_TOTAL) | counter | | calls that the inner service answered to their own caller |
//! | [`tower_offload_offloaded_total`](OFFLOADED_TOTAL) | counter | | tasks that moved to the background |
//! | [`tower_offload_settled_total`](SETTLED_TOTAL) | counter | `status` | tasks that ended: `completed`, `failed`, `cancelled` |
//! | [`tower_offload_refused_total`](REFUSED_TOTAL) | counter | `reason` | tasks that were not admitted; [`Refused::as_str`] says why |
//! | [`tower_offload_running`](RUNNING) | gauge | | tasks that run now |
//! | [`tower_offload_hand_over_seconds`](HAND_OVER_SECONDS) | histogram | | seconds from noticing the deadline to the caller's answer |
//!
//! There are no labels for users, sessions or tools: their number has no bound, and each value would be a time series of
//! its own. The events of `tracing` name them.
//!
//! # What counts as what
//!
//! - A call is `foreground` whatever its answer is, an error included, and also when the layer never offloads it. Each
//!   layer counts its own: a call that is ready in both of two counts twice.
//! - A call that moves is `offloaded` once its placeholder is made, and so is a future that was given to
//!   [`TaskManager::spawn`]. From then on it is `running`, until it is `settled`.
//! - A call that is `refused` goes on, and may be `foreground` later; it is not if the refusal was its answer.
//! - A call whose caller leaves before the deadline is `offloaded` if it [is handed over][OnDisconnect::HandOver], and
//!   otherwise neither that nor `foreground`, because no caller gets an answer. The same goes for a call that panics
//!   before it moves, or whose placeholder hook panics.
//! - The time of a hand-over includes the hooks that describe the call and make the placeholder. Where no
//!   caller waits for an answer, with `spawn` and after a caller has left, nothing is timed.
//! - A panic, the run-time limit and a runtime that goes away are `failed`; what a shutdown stops is `cancelled`. A task
//!   that another process has ended, because it took this one for dead, is settled with that end once this process learns
//!   of it. A process that dies counts no ends, and neither does the process that finds its tasks lost.
//!
//! # When to install the recorder
//!
//! Before the first call. An event goes to the recorder that is installed when it happens: one that is installed later
//! misses the events before, and its gauge falls when a task ends that started before. The metrics are described when a manager is built;
//! [`describe`] does so again.
//!
//! A recorder runs within the calls and tasks that it counts, and never while the manager holds a lock.
//!
//! [OnDisconnect::HandOver]: crate::offload::OnDisconnect::HandOver
//! [`Refused::as_str`]: crate::manager::Refused::as_str
//! [`TaskManager::spawn`]: crate::TaskManager::spawn

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Counter: calls that the inner service answered to their own caller.
pub const FOREGROUND_TOTAL: &str = "tower_offload_foreground_total";

/// Counter: tasks that moved to the background.
pub const OFFLOADED_TOTAL: &str = "tower_offload_offloaded_total";

/// Counter: tasks that ended, by `status`.
pub const SETTLED_TOTAL: &str = "tower_offload_settled_total";

/// Counter: tasks that were not admitted, by `reason`.
pub const REFUSED_TOTAL: &str = "tower_offload_refused_total";

/// Gauge: tasks that run now.
pub const RUNNING: &str = "tower_offload_running";

/// Histogram: seconds from noticing the deadline to the caller's answer.
pub const HAND_OVER_SECONDS: &str = "tower_offload_hand_over_seconds";

/// Describes all metrics to the recorder that is there now.
///
/// Building a [`TaskManager`](crate::TaskManager) does this: it is for a recorder that is installed after that.
pub fn describe() {
    describe_counter!(
        FOREGROUND_TOTAL,
        Unit::Count,
        "Calls that the inner service answered to their own caller"
    );
    describe_counter!(OFFLOADED_TOTAL, Unit::Count, "Tasks that moved to the background");
    describe_counter!(SETTLED_TOTAL, Unit::Count, "Background tasks that ended, by status");
    describe_counter!(REFUSED_TOTAL, Unit::Count, "Background tasks that were not admitted, by reason");
    describe_gauge!(RUNNING, Unit::Count, "Background tasks that run now");
    describe_histogram!(
        HAND_OVER_SECONDS,
        Unit::Seconds,
        "Time from noticing the deadline of a call to the answer for its caller"
    );
}
