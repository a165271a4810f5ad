//! Deliverers: closures and wrappers, and deliveries that hang and what they take from others.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tower_offload::manager::{BoxError, Ended, Refused};
use tower_offload::offload::{DeliverResult, Delivery, Offloaded, RespondOffloaded};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus};

use crate::support::{SECOND, run_ready, secs};

/// Hands over a call of a user that is done at once then, and whose delivery never is.
async fn offload(manager: &TaskManager, user: &'static str) {
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(move |_: &()| Some(TaskMeta::new(user, "work")))
        .respond(|_: &TaskRecord| ())
        .deliver(|_: TaskRecord, _: Ended<Result<(), Infallible>>| pending::<Result<(), BoxError>>());
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(2)).await;
        Ok::<_, Infallible>(())
    }));
    service.oneshot(()).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    run_ready().await;
}

fn register(manager: &TaskManager, user: &str) -> Result<(), Refused> {
    manager.spawn(TaskMeta::new(user, "work"), async {}).map(drop).map_err(|rejected| rejected.refused())
}

#[tokio::test(start_paused = true)]
async fn they_count_for_their_user() {
    // With records that go at once, and ones that stay.
    for retained in [0, 50] {
        let manager = TaskManager::builder()
            .max_running(10)
            .max_running_per_user(3)
            .max_retained_per_user(retained)
            .build();
        for _ in 0..3 {
            offload(&manager, "alice").await;
        }
        assert_eq!(manager.health().waiting_results, 3);
        assert_eq!(register(&manager, "alice"), Err(Refused::TooManyRunningForUser));
        assert_eq!(register(&manager, "bob"), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn they_end_at_their_limit_and_give_their_places_back() {
    let manager = TaskManager::builder().max_running_per_user(1).max_delivery_time(secs(60)).build();
    offload(&manager, "alice").await;
    tokio::time::sleep(secs(50)).await;
    assert_eq!(register(&manager, "alice"), Err(Refused::TooManyRunningForUser));
    tokio::time::sleep(secs(20)).await;
    assert_eq!(register(&manager, "alice"), Ok(()));
    let stats = manager.stats();
    assert_eq!((stats.undelivered, manager.health().waiting_results), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_them() {
    let manager = TaskManager::builder().max_delivery_time(None).build();
    offload(&manager, "alice").await;
    let report = manager.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.unsettled, report.undelivered), (0, 1));
    let stats = manager.stats();
    assert_eq!((stats.active, stats.undelivered, stats.completed), (0, 1, 1));
    let list = manager.list(&tower_offload::task::Scope::user("alice")).await.unwrap();
    assert_eq!(list[0].status, TaskStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_service_with_a_closure_that_delivers_can_be_called_in_a_spawned_task() {
    // What is tested is that the async blocks are `Send`.
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &bool| Some(TaskMeta::new("alice", "work")))
        .respond(|_: &TaskRecord| ())
        .deliver(async |_: TaskRecord, ended: Ended<Result<(), String>>| {
            ended.returned().ok_or("it did not return")??;
            Ok(())
        });
    let service = layer.layer(service_fn(async |fails: bool| {
        tokio::time::sleep(secs(2)).await;
        if fails { Err("away".to_owned()) } else { Ok(()) }
    }));
    for fails in [false, true] {
        let service = service.clone();
        tokio::spawn(async move { service.oneshot(fails).await }).await.unwrap().unwrap();
    }
    tokio::time::sleep(secs(2)).await;
    run_ready().await;
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 1));
}

/// Hooks for calls that have a tenant, made of ready ones for calls that have none.
#[derive(Clone)]
struct OfTenants<H>(H);

struct TenantCall {
    tenant: String,
    meta: TaskMeta,
}

impl tower_offload::offload::OffloadCall for TenantCall {
    fn meta(&self) -> TaskMeta {
        self.meta.clone().with_agent(&self.tenant)
    }
}

impl<H: RespondOffloaded<TaskMeta, String>> RespondOffloaded<TenantCall, String> for OfTenants<H> {
    fn respond(&self, offloaded: &Offloaded<'_, TenantCall>) -> String {
        let inner = Offloaded::new(offloaded.task, &offloaded.call.meta, offloaded.timeout);
        format!("{} of {}", self.0.respond(&inner), offloaded.call.tenant)
    }
}

impl<H: DeliverResult<TaskMeta, String, Infallible> + Sync> DeliverResult<TenantCall, String, Infallible>
    for OfTenants<H>
{
    async fn deliver(&self, delivery: Delivery<TenantCall, String, Infallible>) -> Result<(), BoxError> {
        let Delivery { call, task, ended, .. } = delivery;
        self.0.deliver(Delivery::new(call.meta, task, ended)).await
    }
}

#[tokio::test(start_paused = true)]
async fn ready_made_hooks_can_be_wrapped_for_calls_of_another_type() {
    let (delivered, mut deliveries) = tokio::sync::mpsc::unbounded_channel();
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|tenant: &&'static str| {
            Some(TenantCall { tenant: (*tenant).to_owned(), meta: TaskMeta::new("alice", "work") })
        })
        .respond(OfTenants(|task: &TaskRecord| format!("a task of {}", task.meta.user_id())))
        .deliver(OfTenants(move |task: TaskRecord, ended: Ended<Result<String, Infallible>>| {
            let delivered = delivered.clone();
            async move { Ok(delivered.send((task.meta.agent_id().to_owned(), ended))?) }
        }));
    let service = layer.layer(service_fn(async |_: &'static str| {
        tokio::time::sleep(secs(2)).await;
        Ok::<_, Infallible>("done".to_owned())
    }));
    assert_eq!(service.oneshot("acme").await.unwrap(), "a task of alice of acme");
    let (tenant, ended) = deliveries.recv().await.unwrap();
    assert_eq!((&*tenant, ended.returned()), ("acme", Some(Ok("done".to_owned()))));
}
