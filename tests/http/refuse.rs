//! Late calls that cannot become a task.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Response;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_offload::TaskManager;
use tower_offload::http::RespondAccepted;

use crate::support::{SLOW, TIMEOUT, body, layer, on_drop, post, slow};

fn refusing() -> RespondAccepted {
    RespondAccepted::new().refuse_with_503(Duration::from_millis(1_500))
}

async fn is_problem(response: Response<Body>, kind: &str, title: &str, detail: &str) {
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(!response.headers().contains_key("location"));
    let problem: Value = serde_json::from_slice(&body(response).await).unwrap();
    let expected = json!({
        "type": kind,
        "title": title,
        "status": 503,
        "detail": detail,
    });
    assert_eq!(problem, expected);
}

#[tokio::test(start_paused = true)]
async fn by_default_the_caller_waits_for_the_real_answer() {
    let manager = TaskManager::builder().max_running(0).build();
    let start = Instant::now();
    let response = slow(layer(&manager), post()).await;
    assert_eq!(start.elapsed(), SLOW);
    assert_eq!(response.status(), 200);
    assert_eq!(body(response).await, b"the report");
    assert_eq!(manager.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn at_a_limit_it_can_be_a_503_and_the_work_is_dropped() {
    for (manager, detail) in [
        (TaskManager::builder().max_running(0), "too many background tasks are running"),
        (
            TaskManager::builder().max_running_per_user(0),
            "too many background tasks of this user are running",
        ),
    ] {
        let manager = manager.build();
        let (guard, mut dropped) = on_drop();
        let guard = std::sync::Arc::new(std::sync::Mutex::new(Some(guard)));
        let handler = move || {
            let guard = guard.lock().unwrap().take();
            async move {
                tokio::time::sleep(SLOW).await;
                drop(guard);
            }
        };
        let app = Router::new().fallback(handler).layer(layer(&manager).respond(refusing()));
        let start = Instant::now();
        let response = app.oneshot(post()).await.unwrap();
        assert_eq!(start.elapsed(), TIMEOUT);
        assert_eq!(dropped.try_recv(), Ok(()));
        let kind = RespondAccepted::TOO_MANY_BACKGROUND_TASKS;
        is_problem(response, kind, "Too many background tasks", detail).await;
        assert_eq!(manager.stats().running, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn during_a_shutdown_it_can_be_a_503() {
    let manager = TaskManager::new();
    manager.shutdown(Duration::ZERO).await;
    let response = slow(layer(&manager).respond(refusing()), post()).await;
    let detail = "the task manager is shutting down";
    is_problem(response, RespondAccepted::SHUTTING_DOWN, "Shutting down", detail).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_would_not_change_is_waited_for() {
    let manager = TaskManager::builder().max_meta_bytes(1).build();
    let response = slow(layer(&manager).respond(refusing()), post()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(manager.stats().refused, 1);
}
