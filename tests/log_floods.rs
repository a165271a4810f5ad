//! No client and no peer floods the log, and no log line shows a secret that a panic message quotes.
//!
//! A process of its own, because the lines are limited for the whole process.

#[path = "support/flaky_bus.rs"]
mod flaky_bus;
#[path = "support/log.rs"]
mod log;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{Inbox, MemoryBus, SharedBus, keys};
use tower_offload::http::{Identity, RequestHead, Unidentified};
use tower_offload::tool::DeliverHint;
use tower_offload::{
    BackgroundTasks, CancelDispatcher, OffloadLayer, TaskManager, ToolCall, ToolResponse, ToolStop,
};

use crate::flaky_bus::{Fault, FlakyBus};
use crate::log::Lines;

/// A secret that the default rule finds.
const SECRET: &str = "sk-ant-api03-a1B2c3D4e5F6g7H8i9J0";

fn assert_one(lines: &Lines, text: &str) -> String {
    let mut found = lines.take(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn shared_bus() -> (Arc<FlakyBus>, TaskManager) {
    let bus = FlakyBus::on(MemoryBus::new());
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    (bus, manager)
}

#[tokio::test(start_paused = true)]
async fn lists_that_cannot_be_read_write_one_line() {
    let (bus, manager) = shared_bus();
    bus.disconnect();
    let router = BackgroundTasks::new(manager).router();
    let (lines, _guard) = Lines::collect();
    for _ in 0..20 {
        let request =
            Request::get("/background-tasks").header("x-user-id", "alice").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_one(&lines, "could not be read");
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_panics_writes_one_line_without_the_token() {
    let identity = Identity::from(|_: &RequestHead<'_>| -> Result<String, Unidentified> {
        panic!("called `Result::unwrap()` on an `Err` value: InvalidToken({SECRET:?})")
    });
    let router = BackgroundTasks::builder(TaskManager::new()).identify(identity).build().router();
    let (lines, _guard) = Lines::collect();
    for _ in 0..20 {
        let request = Request::get("/background-tasks").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let line = assert_one(&lines, "identity hook panicked");
    assert!(line.contains("InvalidToken") && !line.contains(SECRET), "{line}");
}

#[tokio::test(start_paused = true)]
async fn results_that_wait_for_the_bus_write_one_line_in_five_seconds() {
    let bus = FlakyBus::new([Fault::Lost; 60]);
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    let (lines, _guard) = Lines::collect();
    let deliver = DeliverHint::new(Arc::clone(&bus) as SharedBus)
        .backoff(Duration::from_millis(100), Duration::from_millis(100));
    let tool = service_fn(async |_: ToolCall| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok::<_, Infallible>(ToolResponse::text("call_1", "42"))
    });
    let tool = OffloadLayer::for_tools(manager.clone(), Duration::from_secs(10)).deliver(deliver).layer(tool);
    let calls = (0..20).map(|_| {
        let call = ToolCall::new("slow", "{}").with_user("alice").with_session("s1");
        tool.clone().oneshot(call)
    });
    futures_util::future::join_all(calls).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(bus.dedupe_keys().len(), 80);
    assert_one(&lines, "not delivered yet");
}

#[tokio::test(start_paused = true)]
async fn stops_that_fail_write_one_line_without_what_a_model_wrote() {
    let (bus, manager) = shared_bus();
    bus.disconnect();
    let stop = ToolStop::new(manager);
    let (lines, _guard) = Lines::collect();
    for _ in 0..20 {
        let input = serde_json::json!({"task_id": format!("{SECRET} {}", "x".repeat(10_000))}).to_string();
        let call = ToolCall::new(ToolStop::NAME, input).with_user("alice").with_session("s1");
        stop.run(&call).await;
    }
    let line = assert_one(&lines, "a stop request failed");
    assert!(!line.contains(SECRET) && line.len() < 2_000, "{line}");
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_peer_write_one_line_of_a_kind() {
    let bus: SharedBus = Arc::new(MemoryBus::new());
    let manager = TaskManager::builder().bus(Arc::clone(&bus)).build();
    let (lines, _guard) = Lines::collect();
    let _dispatcher = CancelDispatcher::builder(&manager)
        .on_session_cancel(|_| panic!("no session of {SECRET}"))
        .start()
        .await
        .unwrap();
    for _ in 0..20 {
        bus.publish(keys::TASK_CANCEL, "malformed").await.unwrap();
        bus.publish(keys::SESSION_INTERRUPT, r#"{"session_id": ""}"#).await.unwrap();
        bus.publish(keys::SESSION_CANCEL, r#"{"session_id": "s1"}"#).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let all = lines.take("");
    let skipped = all.iter().filter(|line| line.contains("malformed message skipped")).count();
    let panics: Vec<_> = all.iter().filter(|line| line.contains("dispatcher panicked")).collect();
    assert_eq!((skipped, panics.len()), (1, 1), "{all:#?}");
    assert!(panics[0].contains("no session of") && !panics[0].contains(SECRET), "{all:#?}");
}

#[tokio::test(start_paused = true)]
async fn inboxes_whose_bus_is_away_write_one_line_in_five_seconds() {
    let bus = FlakyBus::on(MemoryBus::new());
    let mut open = Vec::new();
    for session in 0..20 {
        let wakeup = Wakeup::wake("alice", format!("s{session}"), "agent");
        open.push(Inbox::open(Arc::clone(&bus) as SharedBus, &wakeup).await.unwrap());
    }
    bus.disconnect();
    let (lines, _guard) = Lines::collect();
    // The flags are renewed after 200 seconds, all at once.
    tokio::time::sleep(Duration::from_secs(204)).await;
    let line = assert_one(&lines, "was not renewed");
    assert!(line.contains("left_out=0"), "{line}");
    drop(open);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_one(&lines, "is not closed yet");
}
