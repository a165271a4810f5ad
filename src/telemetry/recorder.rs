//! What goes to the recorder that is installed.
//!
//! A recorder is user code, so that each call of it is caught: a panic in it costs a count, and no caller its answer.
//!
//! Handles are not kept: a recorder may be installed later, and each thread may have one of its own. So that this is cheap,
//! keys are static wherever calls are counted, with their hash, and cost no memory.

use std::time::Instant;

use ::metrics::{Key, Label, Level, Metadata, with_recorder};

use crate::metrics::{
    FOREGROUND_TOTAL, HAND_OVER_SECONDS, OFFLOADED_TOTAL, REFUSED_TOTAL, RUNNING, SETTLED_TOTAL,
};
use crate::panics;
use crate::task::TaskStatus;

static METADATA: Metadata<'static> = Metadata::new("tower_offload", Level::INFO, Some("tower_offload"));

pub(crate) fn describe() {
    panics::quietly(crate::metrics::describe);
}

/// A call was answered by the inner service. The one count on the fast path.
#[inline]
pub(crate) fn foreground() {
    static KEY: Key = Key::from_static_name(FOREGROUND_TOTAL);
    count(&KEY);
}

/// A task runs in the background from now on: [`settled`] follows, once.
pub(crate) fn offloaded() {
    static TOTAL: Key = Key::from_static_name(OFFLOADED_TOTAL);
    count(&TOTAL);
    running(1.0);
}

/// A task was not admitted.
pub(crate) fn refused(reason: &'static str) {
    count(&Key::from_parts(REFUSED_TOTAL, vec![Label::from_static_parts("reason", reason)]));
}

/// A task that was [`offloaded`] has ended.
pub(crate) fn settled(status: TaskStatus) {
    macro_rules! key {
        ($status:ident) => {{
            static LABELS: [Label; 1] = [Label::from_static_parts("status", TaskStatus::$status.as_str())];
            static KEY: Key = Key::from_static_parts(SETTLED_TOTAL, &LABELS);
            &KEY
        }};
    }
    running(-1.0);
    count(match status {
        TaskStatus::Running => return,
        TaskStatus::Completed => key!(Completed),
        TaskStatus::Failed => key!(Failed),
        TaskStatus::Cancelled => key!(Cancelled),
    });
}

/// Times one hand-over, on the clock of the system: tokio's may stand still.
pub(crate) struct HandOver(Instant);

impl HandOver {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The caller's answer is ready.
    pub(crate) fn end(self) {
        static KEY: Key = Key::from_static_name(HAND_OVER_SECONDS);
        panics::quietly(|| {
            with_recorder(|recorder| recorder.register_histogram(&KEY, &METADATA)).record(self.0.elapsed());
        });
    }
}

fn count(key: &Key) {
    panics::quietly(|| with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(1));
}

/// By a difference, and not set to what the table says: differences add up in whatever order they come, and those of
/// several managers too.
fn running(change: f64) {
    static KEY: Key = Key::from_static_name(RUNNING);
    panics::quietly(|| {
        with_recorder(|recorder| recorder.register_gauge(&KEY, &METADATA)).increment(change);
    });
}
