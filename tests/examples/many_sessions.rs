//! Any number of sessions pass through one process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_offload::{MemoryBus, TaskManager};

use crate::bash::Commands;
use crate::program::{Program, tool_call, until};
use crate::routes;

async fn send(app: &Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("Host", "localhost").header("X-User-ID", "alice");
    let answer = app.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (status, body) = (answer.status(), answer.into_body().collect().await.unwrap().to_bytes());
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_sessions_and_then_a_new_one() {
    // A hundredth of the room that a bus has by default, and of a million sessions.
    let bus =
        MemoryBus::builder().max_stored_bytes((64 << 20) / 100).max_registry_bytes((16 << 20) / 100).build();
    let manager = TaskManager::builder().bus(Arc::new(bus.clone())).build();
    let commands = Commands::new(Duration::ZERO);
    let app = routes::app(&manager, commands, Duration::from_millis(100), Vec::new());
    for session in 0..10_000 {
        let call = format!("/sessions/{session}/tools/Sleep");
        // Each tenth one moves to the background, and its hint is left in the inbox.
        let input = if session % 10 == 0 { r#"{"seconds": 1}"# } else { r#"{"seconds": 0}"# };
        assert_eq!(send(&app, "POST", &call, input).await.0, StatusCode::OK);
        if session % 10 == 5 {
            let drain = format!("/sessions/{session}/inbox/drain");
            assert_eq!(send(&app, "POST", &drain, "").await, (StatusCode::OK, "[]".to_owned()));
        }
    }
    let (_, answer) = send(&app, "POST", "/sessions/new/tools/Sleep", r#"{"seconds": 1}"#).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["metadata"]["task_id"].as_str().unwrap().replace('-', "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (status, hints) = send(&app, "POST", "/sessions/new/inbox/drain", "").await;
    assert_eq!(status, StatusCode::OK, "{hints}");
    let hints: Vec<Value> = serde_json::from_str(&hints).unwrap();
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0]["hint"]["id"], id);
    assert_eq!(send(&app, "GET", "/health", "").await.0, StatusCode::OK);
    let health = manager.health();
    assert!(health.is_well() && health.waiting_results == 0, "{health:?}");
    let stats = bus.stats();
    assert_eq!((stats.locks, stats.fields, stats.registry_bytes), (0, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn thousands_of_sessions_over_http_and_then_a_new_one() {
    let program = &Program::start(&[]).await;
    stream::iter(0..3_000)
        .for_each_concurrent(64, async |session| {
            // Every third call moves to the background. Of those every second inbox is read, the others never.
            let seconds = if session % 3 == 0 { 1.5 } else { 0.0 };
            let (user, session_id) = (format!("user {}", session % 7), format!("s{session}"));
            let call = tool_call(&user, &session_id, "Sleep", &json!({ "seconds": seconds }));
            let answer = program.send(call).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if session % 6 == 0 {
                let hints = until(async || {
                    Some(program.drain_in(&user, &session_id).await).filter(|hints| !hints.is_empty())
                });
                assert_eq!(hints.await.len(), 1);
            }
        })
        .await;
    for user in ["bob", "user 0"] {
        let id = program.offload_in(user, "new", "Sleep", json!({ "seconds": 2.0 })).await;
        let hints =
            until(async || Some(program.drain_in(user, "new").await).filter(|hints| !hints.is_empty())).await;
        assert_eq!(hints.len(), 1);
        assert_eq!(hints[0]["id"], id.replace('-', ""));
    }
    assert_eq!(program.get("bob", "/health").await.status, 200);
}
