//! How the hint gets into the inbox: one wakeup, and nothing is lost while the bus is down.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::{SubscriptionEvent, keys};
use tower_offload::tool::DeliverHint;
use tower_offload::{OffloadLayer, TaskManager, TaskStatus, ToolCall, ToolResponse};

use crate::common::*;
use crate::flaky_bus::{Fault, FlakyBus};

fn forty_two() -> ToolResponse {
    ToolResponse::text("call_1", "42")
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn a_result_wakes_its_session_once() {
    let manager = TaskManager::new();
    let mut signals = manager.bus().subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let task = offload(&manager, late(forty_two())).await;
    assert_silent(&manager).await;
    ended(&manager, task).await;
    assert_eq!(inbox(&**manager.bus()).await.len(), 1);
    let wakeup = json!(
        {"user_id": "alice", "session_id": "s1", "agent_id": "agent", "kind": "wake", "input": null}
    );
    assert_eq!(wakeups(&**manager.bus()).await, [wakeup]);
    assert!(matches!(signals.recv().await, Some(SubscriptionEvent::Message(_))));
    assert!(tokio::time::timeout(secs(60), signals.recv()).await.is_err(), "a second signal");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_reads_its_inbox_by_itself_is_not_woken() {
    let manager = TaskManager::new();
    let consumer = keys::inbox_consumer("s1");
    manager.bus().set(&consumer, keys::CONSUMER_RUNNING, "1", None).await.unwrap();
    let task = offload(&manager, late(forty_two())).await;
    ended(&manager, task).await;
    assert_eq!(inbox(&**manager.bus()).await.len(), 1);
    assert_eq!(wakeups(&**manager.bus()).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_is_repeated_until_it_succeeds() {
    let bus = FlakyBus::new([Fault::Lost; 12]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let task = offload(&manager, late(forty_two())).await;
    let record = manager.wait(&scope(), task).await.unwrap().unwrap();
    assert_eq!(record.status, TaskStatus::Completed, "the status does not wait for the bus");
    assert_eq!(inbox(&bus.inner).await.len(), 0);
    ended(&manager, task).await;
    assert_eq!(inbox(&bus.inner).await.len(), 1);
    assert_eq!(wakeups(&bus.inner).await.len(), 1);
    let waits = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000];
    // Tokio's timers round up to the next millisecond.
    let waited: Vec<_> = bus.waits().iter().map(|wait| wait.as_millis() / 10 * 10).collect();
    assert_eq!(waited, waits);
    assert_eq!(manager.stats().undelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_answer_was_lost_arrives_once() {
    let bus = FlakyBus::new([Fault::AnswerLost, Fault::AnswerLost]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let task = offload(&manager, late(forty_two())).await;
    ended(&manager, task).await;
    assert_eq!(bus.dedupe_keys(), [task.to_string(), task.to_string(), task.to_string()]);
    assert_eq!(inbox(&bus.inner).await.len(), 1);
    assert_eq!(wakeups(&bus.inner).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_answer_is_asked_again() {
    let bus = FlakyBus::new([Fault::Hangs]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let task = offload(&manager, late(forty_two())).await;
    ended(&manager, task).await;
    assert_eq!(inbox(&bus.inner).await.len(), 1);
    let waits = bus.waits();
    assert!((millis(30_100)..millis(30_110)).contains(&waits[0]), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_results_of_many_tasks_are_all_delivered_after_an_outage() {
    let bus = FlakyBus::new([Fault::Lost; 50]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(offload(&manager, late(forty_two())).await);
    }
    for task in &tasks {
        ended(&manager, *task).await;
    }
    let hints = inbox(&bus.inner).await;
    assert_eq!(hints.len(), 20);
    for task in tasks {
        assert_eq!(hints.iter().filter(|hint| hint.contains(&task.to_string())).count(), 1);
    }
    assert_eq!(wakeups(&bus.inner).await.len(), 20);
}

fn with_deliverer(manager: &TaskManager, deliverer: DeliverHint) -> impl AsyncFn() + use<> {
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT).deliver(deliverer);
    let tool = service_fn(|_: ToolCall| late(forty_two()));
    let service = ServiceBuilder::new().layer(layer).service(tool);
    async move || {
        service
            .clone()
            .oneshot(call("t", "{}"))
            .await
            .map(drop)
            .unwrap_or_else(|error: BoxError| panic!("{error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_waiting_times_can_be_set() {
    let bus = FlakyBus::new([Fault::Lost; 4]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let deliverer = DeliverHint::new(Arc::clone(manager.bus())).backoff(secs(1), secs(3));
    with_deliverer(&manager, deliverer)().await;
    tokio::time::sleep(secs(60)).await;
    let waits: Vec<_> = bus.waits().iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [1, 2, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_bus_that_is_down_is_bounded() {
    let bus = FlakyBus::new([Fault::Lost; 8]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    // Room for two hints of some 550 bytes.
    let deliverer = DeliverHint::new(Arc::clone(manager.bus())).max_waiting_bytes(1500);
    let offload = with_deliverer(&manager, deliverer);
    // All at once, so that they end at once.
    tokio::join!(offload(), offload(), offload());
    tokio::time::sleep(secs(11)).await;
    assert_eq!(manager.stats().undelivered, 1);
    assert_eq!(manager.stats().completed, 3, "the records and the results are safe");
    while manager.stats().active > 0 {
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(inbox(&bus.inner).await.len(), 2);
    // The room is given back.
    offload().await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(inbox(&bus.inner).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_is_being_delivered() {
    let bus = FlakyBus::new([Fault::Lost; 3]);
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let task = offload(&manager, late(forty_two())).await;
    manager.wait(&scope(), task).await.unwrap().unwrap();
    let report = manager.shutdown(secs(10)).await;
    assert_eq!(report.undelivered, 0);
    assert_eq!(inbox(&bus.inner).await.len(), 1);
}
