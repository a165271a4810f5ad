//! At a limit the caller waits, or is refused; nothing is lost.

use std::convert::Infallible;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::manager::{Refused, TaskManagerBuilder};
use tower_offload::offload::{Offloaded, RespondOffloaded};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

use crate::support::{Alive, SECOND, alice, bob, list, secs};

/// One call of each user, of five seconds each, through a layer that hands over after one.
async fn calls(builder: TaskManagerBuilder, users: &[&'static str]) -> (TaskManager, Vec<&'static str>) {
    let manager = builder.build();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|user: &&'static str| Some(TaskMeta::new(*user, "work")))
        .respond(|_: &TaskRecord| "placeholder");
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |_: &'static str| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>("done")
    }));
    let calls = users.iter().map(|user| service.clone().oneshot(user));
    let answers = futures_util::future::try_join_all(calls).await.unwrap();
    (manager, answers)
}

#[tokio::test(start_paused = true)]
async fn too_many_running_tasks_leave_the_others_in_the_foreground() {
    let builder = TaskManager::builder().max_running(2);
    let (manager, answers) = calls(builder, &["alice", "bob", "carol"]).await;
    assert_eq!(answers, ["placeholder", "placeholder", "done"]);
    assert_eq!((manager.stats().admitted, manager.stats().refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_one_user_is_not_that_of_another() {
    let builder = TaskManager::builder().max_running_per_user(1);
    let (manager, answers) = calls(builder, &["alice", "alice", "bob"]).await;
    assert_eq!(answers, ["placeholder", "done", "placeholder"]);
    assert_eq!(list(&manager, &alice()).await.len(), 1);
    assert_eq!(list(&manager, &bob()).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_is_too_long_is_not_admitted() {
    let builder = TaskManager::builder().max_meta_bytes(12);
    let (manager, answers) = calls(builder, &["me", "somebody with a long name"]).await;
    assert_eq!(answers, ["placeholder", "done"]);
    assert_eq!(manager.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_has_shut_down_keeps_calls_in_the_foreground() {
    let manager = TaskManager::new();
    manager.shutdown(SECOND).await;
    let layer = OffloadLayer::new(manager, SECOND)
        .describe(|(): &()| Some(crate::support::meta()))
        .respond(|_: &TaskRecord| "placeholder");
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>("done")
    }));
    assert_eq!(service.oneshot(()).await, Ok("done"));
}

#[derive(Clone)]
struct Refuse;

impl RespondOffloaded<TaskMeta, String> for Refuse {
    fn respond(&self, offloaded: &Offloaded<'_, TaskMeta>) -> String {
        format!("late by {:?}", offloaded.timeout)
    }

    fn refuse(&self, call: &TaskMeta, refused: Refused) -> Option<String> {
        Some(format!("{}: {refused}", call.user_id()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_can_refuse_and_the_work_is_dropped() {
    let manager = TaskManager::builder().max_running(1).build();
    let alive = Alive::default();
    let watched = alive.clone();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(crate::support::meta()))
        .respond(Refuse);
    let (sender, tokens) = std::sync::mpsc::channel();
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
        let (guard, sender) = (watched.guard(), sender.clone());
        async move {
            let _guard = guard;
            sender.send(tower_offload::cancellation_token()).unwrap();
            std::future::pending::<Result<String, Infallible>>().await
        }
    }));
    assert_eq!(service.clone().oneshot(()).await.unwrap(), "late by 1s");
    let answer = service.oneshot(()).await.unwrap();
    assert_eq!(answer, "alice: too many background tasks are running");
    assert_eq!((alive.count(), manager.stats().refused), (1, 1));
    let cancelled: Vec<_> = tokens.try_iter().map(|token| token.is_cancelled()).collect();
    assert_eq!(cancelled, [false, true], "what the refused work has started is told");
}

#[tokio::test(start_paused = true)]
async fn results_that_cannot_be_delivered_count_until_they_are() {
    let manager = TaskManager::builder().max_running(4).build();
    let (open, gate) = tokio::sync::watch::channel(false);
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(crate::support::meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .deliver(move |_, _: tower_offload::manager::Ended<Result<&'static str, Infallible>>| {
            let mut gate = gate.clone();
            async move { Ok(gate.wait_for(|open| *open).await.map(drop)?) }
        });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::time::sleep(secs(2)).await;
        Ok::<_, Infallible>("done")
    }));
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(service.clone().oneshot(()).await.unwrap());
        tokio::time::sleep(secs(5)).await;
    }
    assert_eq!(answers[3..], ["placeholder", "done", "done"], "memory is bounded, and nobody loses a result");
    assert_eq!((manager.stats().running, manager.stats().active), (0, 4));
    open.send_replace(true);
    tokio::time::sleep(SECOND).await;
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
}

#[test]
fn outside_of_a_runtime_the_work_comes_back() {
    let rejected = TaskManager::new().spawn(crate::support::meta(), std::future::ready(())).unwrap_err();
    assert_eq!(rejected.refused(), Refused::NoRuntime);
    assert_eq!(futures_util::FutureExt::now_or_never(rejected.into_inner()), Some(()));
}
