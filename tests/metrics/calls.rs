//! Calls, up to their answer.

use std::time::Duration;

use futures_util::FutureExt;
use tower::{Layer, Service, service_fn};
use tower_offload::offload::{Offloaded, OnDisconnect, RespondOffloaded};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta};

use super::*;
use crate::support::{only, run_ready, secs};

#[test]
fn a_call_that_is_ready_is_foreground_whatever_it_answers() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert_eq!(call(&manager, Does::Answer).now_or_never(), Some(Ok("done")));
    counts.assert(&[(FOREGROUND, 1)]);
    assert_eq!(call(&manager, Does::Fail).now_or_never(), Some(Err("failed")));
    counts.assert(&[(FOREGROUND, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_ready_in_time_is_foreground_once() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let pending = tokio::spawn(call(&manager, Does::Take(SECOND / 2)));
    run_ready().await;
    counts.assert(&[]);
    assert_eq!(pending.await.unwrap(), Ok("done"));
    counts.assert(&[(FOREGROUND, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_offloaded_is_foreground() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert_eq!(call(&manager, Does::NeverOffload(secs(5))).await, Ok("done"));
    counts.assert(&[(FOREGROUND, 1)]);
}

#[tokio::test(start_paused = true)]
async fn each_layer_counts_its_own_answers() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let layer = |timeout| {
        OffloadLayer::new(manager.clone(), timeout)
            .describe(|_: &Does| Some(meta()))
            .respond(|_: &TaskRecord| "later")
    };
    let mut both = layer(SECOND).layer(layer(SECOND / 2).layer(service_fn(work)));
    assert_eq!(both.call(Does::Answer).await, Ok("done"));
    counts.assert(&[(FOREGROUND, 2)]);
    // The inner one hands over, and its placeholder is the answer of the outer one's inner service.
    assert_eq!(both.call(Does::Forever).await, Ok("later"));
    counts.assert(&[(FOREGROUND, 3), (OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_before_it_moves_is_not_counted() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert!(tokio::spawn(call(&manager, Does::Panic(SECOND / 2))).await.unwrap_err().is_panic());
    counts.assert(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_moves_is_offloaded_timed_and_runs() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    counts.assert(&[(OFFLOADED, 2), (RUNS, 2), (TIMED, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_is_foreground_when_it_is_answered() {
    let (counts, manager) = (Counts::new(), TaskManager::builder().max_running(0).build());
    let pending = tokio::spawn(call(&manager, Does::Take(secs(5))));
    tokio::time::sleep(secs(2)).await;
    counts.assert(&[("refused_total reason=too_many_running", 1)]);
    assert_eq!(pending.await.unwrap(), Ok("done"));
    counts.assert(&[("refused_total reason=too_many_running", 1), (FOREGROUND, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_the_answer_is_not_foreground() {
    #[derive(Clone)]
    struct Busy;
    impl<K> RespondOffloaded<K, &'static str> for Busy {
        fn respond(&self, _: &Offloaded<'_, K>) -> &'static str {
            "later"
        }
        fn refuse(&self, _: &K, _: tower_offload::manager::Refused) -> Option<&'static str> {
            Some("busy")
        }
    }
    let (counts, manager) = (Counts::new(), TaskManager::builder().max_running_per_user(0).build());
    let layer = OffloadLayer::new(manager, SECOND).describe(|_: &Does| Some(meta())).respond(Busy);
    assert_eq!(layer.layer(service_fn(work)).call(Does::Forever).await, Ok("busy"));
    counts.assert(&[("refused_total reason=too_many_running_for_user", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_placeholder_hook_that_panics_leaves_no_trace() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &Does| Some(meta()))
        .respond(|_: &TaskRecord| -> &'static str { panic!("no placeholder") });
    let panicked = tokio::spawn(layer.layer(service_fn(work)).call(Does::Forever)).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(manager.stats().running, 0);
    counts.assert(&[]);
    // A recorder that adds up sees no difference either in what comes after.
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_with_its_work_is_not_counted() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let leaves = tokio::time::timeout(SECOND / 2, call(&manager, Does::Forever)).await;
    assert!(leaves.is_err());
    counts.assert(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_its_work_behind_is_offloaded_and_not_timed() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let call = call_with(&manager, Does::Take(secs(5)), OnDisconnect::HandOver);
    assert!(tokio::time::timeout(SECOND / 2, call).await.is_err());
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1)]);
    let task = only(&manager).await;
    manager.wait(&support::alice(), task.id).await.unwrap().unwrap();
    counts.assert(&[(OFFLOADED, 1), (COMPLETED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_and_whose_work_is_refused_counts_as_refused() {
    let (counts, manager) = (Counts::new(), TaskManager::builder().max_running(0).build());
    let call = call_with(&manager, Does::Forever, OnDisconnect::HandOver);
    assert!(tokio::time::timeout(SECOND / 2, call).await.is_err());
    counts.assert(&[("refused_total reason=too_many_running", 1)]);
}

#[tokio::test]
async fn every_reason_to_refuse_has_its_name() {
    let counts = Counts::new();
    let small = TaskManager::builder().max_meta_bytes(8).build();
    small.spawn(TaskMeta::new("alice", "more than eight"), async {}).unwrap_err();
    let closed = TaskManager::new();
    closed.shutdown(Duration::ZERO).await;
    closed.spawn(meta(), async {}).unwrap_err();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let counts = Counts::new();
            TaskManager::new().spawn(meta(), async {}).unwrap_err();
            counts.assert(&[("refused_total reason=no_runtime", 1)]);
        });
    });
    counts.assert(&[("refused_total reason=meta_too_large", 1), ("refused_total reason=shutting_down", 1)]);
}
