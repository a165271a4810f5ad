//! What the caller of a slow call gets, and what is kept of the call.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::routing::post as post_route;
use bytes::Bytes;
use http::{HeaderName, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use tower_offload::http::{DescribeRequest, Identity, RespondAccepted};
use tower_offload::task::BackgroundTaskInfo;
use tower_offload::{TaskManager, TaskStatus};

use crate::support::{SLOW, answers_after, body, ended, info, layer, post, request, slow, tasks};

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_accepted_and_its_task_is_its_users() {
    let manager = TaskManager::new();
    let headers: &[(&str, &[u8])] = &[
        ("x-user-id", b"alice"),
        ("x-session-id", b"s1"),
        ("x-agent-id", b"agent"),
        ("x-request-id", b"call_1"),
    ];
    let response = slow(layer(&manager), request("POST", "/reports/17?token=hush", headers)).await;

    let [task] = &tasks(&manager, "alice").await[..] else { panic!("not one task") };
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["location"], format!("/background-tasks/{}", task.id));
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let info: BackgroundTaskInfo = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(info, BackgroundTaskInfo::from(task));

    assert_eq!(info.task_id, task.id.to_string());
    assert_eq!(task.meta.user_id(), "alice");
    assert_eq!(info.session_id, "s1");
    assert_eq!(info.agent_id, "agent");
    assert_eq!(info.call_id.as_deref(), Some("call_1"));
    assert_eq!(info.tool_name, "POST");
    assert_eq!(info.summary, "POST /reports/17");
    assert_eq!(info.status, TaskStatus::Running);
    assert!(tasks(&manager, "bob").await.is_empty());

    assert_eq!(ended(&manager).await.status, TaskStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_a_request_does_not_say_is_empty() {
    let manager = TaskManager::new();
    let info = info(slow(layer(&manager), post()).await).await;
    assert_eq!(info.session_id, "");
    assert_eq!(info.agent_id, "");
    assert_eq!(info.call_id, None);
}

#[tokio::test(start_paused = true)]
async fn a_path_of_any_length_fits_into_the_summary() {
    let manager = TaskManager::new();
    for path in ["a".repeat(10_000), "€".repeat(2_000), format!("a{}", "€".repeat(2_000))] {
        let uri = format!("/{path}");
        let info = info(slow(layer(&manager), request("POST", &uri, &[("x-user-id", b"alice")])).await).await;
        let shown: String = format!("POST {uri}").chars().take(125).collect();
        assert_eq!(info.summary, format!("{shown}..."));
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_a_path_is_not_shown() {
    let manager = TaskManager::new();
    let uri = "/login/ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8/token=abc/x";
    let info = info(slow(layer(&manager), request("POST", uri, &[("x-user-id", b"alice")])).await).await;
    assert_eq!(info.summary, "POST /login/[redacted]/token=[redacted]");
}

#[tokio::test(start_paused = true)]
async fn the_location_has_the_prefix_of_the_endpoints() {
    let manager = TaskManager::new();
    let respond = RespondAccepted::new().location_prefix("/api/v1/");
    let response = slow(layer(&manager).respond(respond), post()).await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("/api/v1/background-tasks/{}", info(response).await.task_id));
}

#[tokio::test(start_paused = true)]
async fn closures_name_the_call() {
    let manager = TaskManager::new();
    let describe = DescribeRequest::new()
        .tool_name(|head| Some(head.extensions().get::<MatchedPath>()?.as_str().into()))
        .summary(|head| Some(format!("a report for {}", head.uri().query()?).into()));
    let handler = || tokio::time::sleep(SLOW);
    let app =
        Router::new().route("/reports/{id}", post_route(handler)).layer(layer(&manager).describe(describe));

    let named = request("POST", "/reports/17?q3", &[("x-user-id", b"alice")]);
    let info_named = info(app.clone().oneshot(named).await.unwrap()).await;
    assert_eq!(info_named.tool_name, "/reports/{id}");
    assert_eq!(info_named.summary, "a report for q3");

    let info = info(app.oneshot(post()).await.unwrap()).await;
    assert_eq!(info.summary, "POST /reports/17", "a closure that has none leaves the default");
}

#[tokio::test(start_paused = true)]
async fn a_closure_names_one_thing_and_leaves_the_other() {
    let half = Duration::from_secs(5);
    for (describe, tool_name, summary) in [
        (DescribeRequest::new().tool_name(|_| Some("report".into())), "report", "POST /reports/17"),
        (DescribeRequest::new().summary(|_| Some("a report".into())), "POST", "a report"),
    ] {
        let manager = TaskManager::new();
        let begun = tokio::time::Instant::now();
        let describe = describe.timeout(move |_| Some(half));
        let info = info(slow(layer(&manager).describe(describe), post()).await).await;
        assert_eq!((&*info.tool_name, &*info.summary), (tool_name, summary));
        assert_eq!(begun.elapsed(), half);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_may_have_other_names() {
    let manager = TaskManager::new();
    let describe = DescribeRequest::new()
        .identity(Identity::header(HeaderName::from_static("x-account")))
        .session_header(HeaderName::from_static("x-thread"))
        .agent_header(HeaderName::from_static("x-bot"))
        .call_id_header(HeaderName::from_static("traceparent"));
    let headers: &[(&str, &[u8])] = &[
        ("x-user-id", b"mallory"),
        ("x-account", b"alice"),
        ("x-thread", b"s1"),
        ("x-bot", b"agent"),
        ("traceparent", b"00-1"),
    ];
    slow(layer(&manager).describe(describe), request("POST", "/", headers)).await;
    let [task] = &tasks(&manager, "alice").await[..] else { panic!("not one task") };
    assert_eq!(task.meta.session_id(), "s1");
    assert_eq!(task.meta.agent_id(), "agent");
    assert_eq!(task.meta.call_id(), Some("00-1"));
}

#[tokio::test(start_paused = true)]
async fn bodies_are_made_from_bytes() {
    let manager = TaskManager::new();
    let service = layer(&manager).layer(answers_after(SLOW, Response::new(Full::new(Bytes::new()))));
    let response = service.oneshot(post()).await.unwrap();
    assert_eq!(response.status(), 202);
    let info: BackgroundTaskInfo = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(info.summary, "POST /reports/17");
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_other_type_are_made_by_a_closure() {
    let manager = TaskManager::new();
    let boxed = || Full::new(Bytes::new()).map_err(std::io::Error::other);
    let respond = RespondAccepted::new()
        .map_body(|bytes| BoxBody::new(Full::new(bytes).map_err(std::io::Error::other)));
    let service = tower::service_fn(move |_: http::Request<Body>| async move {
        tokio::time::sleep(SLOW).await;
        Ok::<_, std::convert::Infallible>(Response::new(BoxBody::new(boxed())))
    });
    let response = layer(&manager).respond(respond).layer(service).oneshot(post()).await.unwrap();
    assert_eq!(response.status(), 202);
    let info: BackgroundTaskInfo = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(info.summary, "POST /reports/17");
}
