//! How tasks end.

use tower_offload::TaskStatus;
use tower_offload::manager::StopOutcome;

use super::*;
use crate::support::{alice, only, secs};

/// A call that moves, and the counts when its task has ended.
async fn ended(does: Does, settled: &str, status: TaskStatus) {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert_eq!(call(&manager, does).await, Ok("later"));
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
    let task = only(&manager).await;
    assert_eq!(manager.wait(&alice(), task.id).await.unwrap().unwrap().status, status);
    counts.assert(&[(OFFLOADED, 1), (settled, 1), (TIMED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn completed() {
    ended(Does::Take(secs(5)), COMPLETED, TaskStatus::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn failed() {
    ended(Does::TakeAndFail(secs(5)), FAILED, TaskStatus::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn panicked() {
    ended(Does::Panic(secs(5)), FAILED, TaskStatus::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_once_it_is_gone_and_not_when_it_is_asked() {
    let (counts, manager) = (Counts::new(), TaskManager::builder().cancel_grace(secs(3)).build());
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    let task = only(&manager).await;
    for _ in 0..2 {
        assert_eq!(manager.stop(&alice(), task.id).await.unwrap(), StopOutcome::Requested);
        tokio::time::sleep(SECOND).await;
        counts.assert(&[(OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
    }
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    counts.assert(&[(OFFLOADED, 1), (CANCELLED, 1), (TIMED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_of_its_time() {
    let (counts, manager) = (Counts::new(), TaskManager::builder().max_run_time(secs(3)).build());
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    let task = only(&manager).await;
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    counts.assert(&[(OFFLOADED, 1), (FAILED, 1), (TIMED, 1)]);
}

#[tokio::test(start_paused = true)]
async fn by_a_shutdown() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    assert_eq!(call(&manager, Does::Forever).await, Ok("later"));
    assert_eq!(call(&manager, Does::Take(secs(3))).await, Ok("later"));
    manager.shutdown(secs(4)).await;
    counts.assert(&[(OFFLOADED, 2), (CANCELLED, 1), (COMPLETED, 1), (TIMED, 2)]);
}

#[test]
fn with_their_runtime() {
    let (counts, manager) = (Counts::new(), TaskManager::new());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    assert_eq!(runtime.block_on(call(&manager, Does::Forever)), Ok("later"));
    counts.assert(&[(OFFLOADED, 1), (RUNS, 1), (TIMED, 1)]);
    drop(runtime);
    assert_eq!(manager.stats().failed, 1);
    counts.assert(&[(OFFLOADED, 1), (FAILED, 1), (TIMED, 1)]);
}

#[test]
fn on_a_runtime_that_had_gone_before() {
    let counts = Counts::new();
    let gone = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let manager = TaskManager::builder().runtime(gone.handle().clone()).build();
    drop(gone);
    manager.spawn(meta(), std::future::pending::<()>()).unwrap();
    counts.assert(&[(OFFLOADED, 1), (FAILED, 1)]);
}
