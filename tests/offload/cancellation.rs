//! Stopping: asked first, gone later, and told apart.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::manager::{Ended, StopOutcome, TaskManagerBuilder};
use tower_offload::task::{Outcome, Scope};
use tower_offload::{OffloadLayer, TaskId, TaskManager, TaskRecord, TaskStatus, cancellation_token};

use crate::support::{Alive, Deliveries, SECOND, alice, bob, list, meta, only, run_ready, secs};

/// What the work does when it is asked to stop.
#[derive(Clone, Copy)]
enum Manners {
    Ignores,
    EndsAfter(Duration),
    SaysItStopped,
}

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    deliveries: Deliveries<&'static str>,
    task: TaskRecord,
}

/// One offloaded call that goes on for an hour.
async fn offloaded(builder: TaskManagerBuilder, manners: Manners) -> Fixture {
    let manager = builder.build();
    let (alive, deliveries) = (Alive::default(), Deliveries::new());
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .classify(|result: Result<&&'static str, &Infallible>| match result {
            Ok(&"stopped") => Outcome::Cancelled,
            _ => Outcome::Completed,
        })
        .deliver(deliveries.hook());
    let watched = alive.clone();
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            let token = cancellation_token();
            let hour = tokio::time::sleep(secs(3600));
            Ok::<_, Infallible>(match manners {
                Manners::Ignores => {
                    hour.await;
                    "done"
                }
                Manners::EndsAfter(time) => {
                    token.run_until_cancelled(hour).await;
                    tokio::time::sleep(time).await;
                    "done"
                }
                Manners::SaysItStopped => {
                    token.run_until_cancelled(hour).await;
                    "stopped"
                }
            })
        }
    }));
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
    let task = only(&manager).await;
    Fixture { manager, alive, deliveries, task }
}

async fn stop(manager: &TaskManager, scope: &Scope, task: &TaskRecord) -> StopOutcome {
    manager.stop(scope, task.id).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stopped_task_is_cancelled_when_its_future_is_gone_and_its_record_stays() {
    let Fixture { manager, alive, deliveries, task } =
        offloaded(TaskManager::builder(), Manners::Ignores).await;
    assert_eq!(stop(&manager, &alice(), &task).await, StopOutcome::Requested);
    let stopping = only(&manager).await;
    assert_eq!((stopping.status, alive.count()), (TaskStatus::Running, 1), "requested is not gone");
    assert!(stopping.cancel_requested_at.is_some());

    let stopped = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((stopped.status, stopped.failure_reason), (TaskStatus::Cancelled, None));
    assert_eq!(alive.count(), 0);
    assert!(stopped.completed_at.is_some());
    assert_eq!(only(&manager).await, stopped);
    assert_eq!(stop(&manager, &alice(), &task).await, StopOutcome::AlreadyFinished(stopped.clone()));
    assert_eq!(only(&manager).await, stopped, "a second stop changes nothing");
    run_ready().await;
    assert_eq!(deliveries.one(), (stopped, Ended::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_finished_task_is_finished_whoever_stops_it() {
    let Fixture { manager, task, .. } = offloaded(TaskManager::builder(), Manners::Ignores).await;
    let done = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(done.status, TaskStatus::Completed);
    assert_eq!(stop(&manager, &alice(), &task).await, StopOutcome::AlreadyFinished(done.clone()));
    assert_eq!(only(&manager).await, done);
    assert_eq!(done.cancel_requested_at, None);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_others_does_not_exist() {
    let Fixture { manager, task, alive, .. } = offloaded(TaskManager::builder(), Manners::Ignores).await;
    for foreign in [bob(), Scope::session("s2"), alice().in_session("s2"), bob().in_session("s1")] {
        assert_eq!(stop(&manager, &foreign, &task).await, StopOutcome::NotFound);
        assert_eq!(manager.stop_all(&foreign).await.unwrap(), 0);
        assert_eq!(manager.get(&foreign, task.id).await.unwrap(), None);
        assert_eq!(list(&manager, &foreign).await, []);
        assert_eq!(manager.wait(&foreign, task.id).await.unwrap(), None);
    }
    for nonsense in ["", "x", "00000000-0000-4000-8000-000000000001", &"9".repeat(10_000), "\0\n"] {
        assert_eq!(manager.stop_foreign(&alice(), nonsense).await.unwrap(), StopOutcome::NotFound);
    }
    let upper = task.id.to_string().to_uppercase();
    let outcome = manager.stop_foreign(&alice(), &upper).await.unwrap();
    assert_eq!(outcome, StopOutcome::NotFound, "one task has one name");
    assert_eq!(manager.get(&alice(), TaskId::new()).await.unwrap(), None);
    assert_eq!(manager.stop(&alice(), TaskId::new()).await.unwrap(), StopOutcome::NotFound);
    assert_eq!(alive.count(), 1);
    assert_eq!(only(&manager).await.cancel_requested_at, None);
}

#[tokio::test(start_paused = true)]
async fn work_that_ignores_its_token_is_tracked_until_it_is_dropped() {
    let builder = TaskManager::builder().cancel_grace(secs(30));
    let Fixture { manager, alive, task, .. } = offloaded(builder, Manners::Ignores).await;
    let start = tokio::time::Instant::now();
    assert_eq!(stop(&manager, &alice(), &task).await, StopOutcome::Requested);
    tokio::time::sleep(secs(29)).await;
    let stopping = only(&manager).await;
    assert_eq!((stopping.status, alive.count()), (TaskStatus::Running, 1));
    assert_eq!(manager.stats().running, 1);
    assert_eq!(stop(&manager, &alice(), &task).await, StopOutcome::Requested, "safe to repeat");
    assert_eq!(only(&manager).await, stopping, "the first request counts");
    let stopped = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((start.elapsed(), stopped.status, alive.count()), (secs(30), TaskStatus::Cancelled, 0));
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_by_itself_after_a_stop_keeps_its_true_status() {
    let builder = TaskManager::builder().cancel_grace(secs(30));
    let Fixture { manager, task, .. } = offloaded(builder, Manners::EndsAfter(secs(3))).await;
    let start = tokio::time::Instant::now();
    stop(&manager, &alice(), &task).await;
    let done = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((start.elapsed(), done.status), (secs(3), TaskStatus::Completed));
    assert!(done.cancel_requested_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn without_grace_work_that_reacts_at_once_still_ends_by_itself() {
    let Fixture { manager, task, deliveries, .. } =
        offloaded(TaskManager::builder(), Manners::SaysItStopped).await;
    stop(&manager, &alice(), &task).await;
    let stopped = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((stopped.status, stopped.failure_reason), (TaskStatus::Cancelled, None));
    run_ready().await;
    assert_eq!(deliveries.one().1, Ended::Returned(Ok("stopped")));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_session_stops_its_running_tasks_and_counts_only_those() {
    let manager = TaskManager::new();
    let register = |session: &str, hours: u64| {
        let meta = tower_offload::TaskMeta::new("alice", "work").with_session(session);
        manager.spawn(meta, tokio::time::sleep(secs(3600 * hours))).unwrap()
    };
    let finished = register("s1", 0);
    manager.wait(&alice(), finished.id).await.unwrap().unwrap();
    let (first, second, other) = (register("s1", 1), register("s1", 2), register("s2", 1));
    assert_eq!(manager.stop_all(&alice().in_session("s1")).await.unwrap(), 2);
    for task in [first, second] {
        assert_eq!(manager.wait(&alice(), task.id).await.unwrap().unwrap().status, TaskStatus::Cancelled);
    }
    assert_eq!(manager.stop_all(&alice().in_session("s1")).await.unwrap(), 0);
    let status = async |task: TaskRecord| manager.get(&alice(), task.id).await.unwrap().unwrap().status;
    assert_eq!(status(finished).await, TaskStatus::Completed);
    assert_eq!(status(other).await, TaskStatus::Running);
    assert_eq!(manager.stats().running, 1);
}

#[tokio::test(start_paused = true)]
async fn the_token_is_one_before_and_after_the_hand_over() {
    let (sender, receiver) = std::sync::mpsc::channel::<CancellationToken>();
    let manager = TaskManager::builder().cancel_grace(SECOND).build();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
        let sender = sender.clone();
        async move {
            sender.send(cancellation_token()).unwrap();
            tokio::time::sleep(secs(5)).await;
            sender.send(cancellation_token()).unwrap();
            // What the work does to its own token is its own affair.
            cancellation_token().cancel();
            std::future::pending::<Result<(), Infallible>>().await
        }
    }));
    service.oneshot(()).await.unwrap();
    tokio::time::sleep(secs(9)).await;
    let task = only(&manager).await;
    assert_eq!(task.status, TaskStatus::Running);
    let (before, after) = (receiver.recv().unwrap(), receiver.recv().unwrap());
    assert!(!before.is_cancelled() && !after.is_cancelled());
    stop(&manager, &alice(), &task).await;
    assert!(before.is_cancelled() && after.is_cancelled());
}

#[tokio::test]
async fn outside_of_a_task_nobody_cancels_the_token() {
    assert!(!cancellation_token().is_cancelled());
    cancellation_token().cancel();
    assert!(!cancellation_token().is_cancelled());
}
