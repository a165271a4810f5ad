//! What is counted, seen by a real recorder through the real layer.

#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/mod.rs"]
mod support;

mod calls;
mod ends;
mod recorder;
mod tasks;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use ::metrics::{LocalRecorderGuard, set_default_local_recorder};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{Layer, Service, service_fn};
use tower_offload::metrics as names;
use tower_offload::offload::OnDisconnect;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};

use crate::support::{SECOND, meta};

/// The recorder of this thread for as long as it lives.
struct Counts {
    snapshotter: Snapshotter,
    /// A snapshot takes what it shows.
    so_far: Mutex<BTreeMap<String, f64>>,
    _guard: LocalRecorderGuard<'static>,
}

impl Counts {
    fn new() -> Self {
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        Self {
            snapshotter: recorder.snapshotter(),
            so_far: Mutex::default(),
            _guard: set_default_local_recorder(recorder),
        }
    }

    /// Everything but zeros, by the name without what all have in common; of times how many there are.
    fn all(&self) -> BTreeMap<String, f64> {
        let mut so_far = self.so_far.lock().unwrap();
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let mut name = key.name().strip_prefix("tower_offload_").unwrap().to_owned();
            for label in key.labels() {
                name += &format!(" {}={}", label.key(), label.value());
            }
            *so_far.entry(name).or_default() += match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(change) => change.0,
                DebugValue::Histogram(times) => {
                    assert!(times.iter().all(|time| (0.0..1.0).contains(&time.0)), "real seconds: {times:?}");
                    times.len() as f64
                }
            };
        }
        so_far
            .iter()
            .filter(|(_, value)| **value != 0.0)
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, u32)]) {
        let expected: BTreeMap<String, f64> =
            expected.iter().map(|&(name, count)| (name.to_owned(), f64::from(count))).collect();
        assert_eq!(self.all(), expected);
    }
}

const FOREGROUND: &str = "foreground_total";
const OFFLOADED: &str = "offloaded_total";
const COMPLETED: &str = "settled_total status=completed";
const FAILED: &str = "settled_total status=failed";
const CANCELLED: &str = "settled_total status=cancelled";
const RUNS: &str = "running";
const TIMED: &str = "hand_over_seconds";

/// What a call of the service does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answer,
    Fail,
    /// Answers after this time.
    Take(Duration),
    /// Fails after this time.
    TakeAndFail(Duration),
    Panic(Duration),
    Forever,
    /// Answers at once, and is not for the background.
    NeverOffload(Duration),
}

type Answer = Result<&'static str, &'static str>;

async fn work(does: Does) -> Answer {
    match does {
        Does::Answer => Ok("done"),
        Does::Fail => Err("failed"),
        Does::Take(time) | Does::NeverOffload(time) => {
            tokio::time::sleep(time).await;
            Ok("done")
        }
        Does::TakeAndFail(time) => {
            tokio::time::sleep(time).await;
            Err("failed")
        }
        Does::Panic(time) => {
            tokio::time::sleep(time).await;
            panic!("as asked")
        }
        Does::Forever => std::future::pending().await,
    }
}

/// One call through a layer with a timeout of a second.
fn call(manager: &TaskManager, does: Does) -> impl Future<Output = Answer> + use<> {
    call_with(manager, does, OnDisconnect::Cancel)
}

fn call_with(
    manager: &TaskManager,
    does: Does,
    on_disconnect: OnDisconnect,
) -> impl Future<Output = Answer> + use<> {
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|does: &Does| (!matches!(does, Does::NeverOffload(_))).then(meta))
        .respond(|_: &TaskRecord| "later")
        .on_disconnect(on_disconnect);
    layer.layer(service_fn(work)).call(does)
}

#[test]
fn names_are_short_here() {
    assert_eq!(names::RUNNING, format!("tower_offload_{RUNS}"));
    assert_eq!(names::HAND_OVER_SECONDS, format!("tower_offload_{TIMED}"));
}
