//! What the log says of late calls that stay in the foreground.
//!
//! The lines of one reason are limited for the whole process. So these tests have a process of their own, and each one has
//! reasons of its own.
#![cfg(all(feature = "http", feature = "tool"))]

#[path = "support/log.rs"]
mod log;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::future::join_all;
use http::Request;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::http::{DescribeRequest, HttpOffloadLayer, watch_body};
use tower_offload::tool::ToolPolicy;
use tower_offload::{OffloadLayer, TaskManager, ToolCall, ToolResponse};

use crate::log::Lines;

const TIMEOUT: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(60);

fn http(manager: &TaskManager) -> HttpOffloadLayer {
    tower_offload::http::layer(manager.clone(), TIMEOUT)
}

fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::empty()).unwrap()
}

async fn slow(layer: HttpOffloadLayer, request: Request<Body>) -> Response {
    let handler = async || {
        tokio::time::sleep(SLOW).await;
        "the report"
    };
    Router::new().fallback(handler).layer(layer).oneshot(request).await.unwrap()
}

/// What each of the lines says.
const STAYS: &str = "a late call stays";

#[tokio::test(start_paused = true)]
async fn one_line_says_why_late_calls_stay() {
    let (lines, _guard) = Lines::collect();
    let manager = TaskManager::new();

    // In time: no line.
    let fast = Router::new().fallback(async || "at once").layer(http(&manager));
    assert_eq!(fast.oneshot(request("POST", "/", &[])).await.unwrap().status(), 200);
    assert_eq!(lines.take(STAYS), [""; 0]);

    // A flood of late ones at once: one line.
    for answer in join_all((0..100).map(|_| slow(http(&manager), request("POST", "/", &[])))).await {
        assert_eq!(answer.status(), 200);
    }
    let [line] = &lines.take(STAYS)[..] else { panic!("not one line") };
    assert!(line.contains("DEBUG") && line.contains("names no user"), "{line}");

    // Each reason has its own line.
    for (method, headers, reason) in [
        ("HEAD", &[("x-user-id", "alice")] as &[(&str, &str)], "HEAD request"),
        ("GET", &[("x-user-id", "alice"), ("accept", "text/event-stream")], "server-sent events"),
        ("POST", &[("x-user-id", "alice"), ("content-type", "application/grpc")], "gRPC"),
        ("POST", &[("x-user-id", "alice"), ("content-length", "5")], "request body"),
        ("GET", &[("x-user-id", "alice"), ("upgrade", "websocket")], "connection"),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        for answer in join_all((0..3).map(|_| slow(http(&manager), request(method, "/", &headers)))).await {
            assert_eq!(answer.status(), 200);
        }
        let [line] = &lines.take(STAYS)[..] else { panic!("not one line: {reason}") };
        assert!(line.contains(reason), "{line}");
    }
    let excluding = DescribeRequest::new().only(|_| false);
    assert_eq!(
        slow(http(&manager).describe(excluding), request("POST", "/", &[("x-user-id", b"alice")]))
            .await
            .status(),
        200
    );
    let [line] = &lines.take(STAYS)[..] else { panic!("not one line") };
    assert!(line.contains("the service excludes it"), "{line}");
    assert_eq!(manager.stats().admitted + manager.stats().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_line_says_that_a_late_call_has_not_read_its_body() {
    let (lines, _guard) = Lines::collect();
    let manager = TaskManager::new();
    let handler = async |read_after: Duration, body: Body| {
        tokio::time::sleep(read_after).await;
        drop(body);
        tokio::time::sleep(SLOW).await;
    };
    let call = async |read_after: u64| {
        let handler = move |body: Body| handler(Duration::from_secs(read_after), body);
        let stack = ServiceBuilder::new()
            .map_request(|request| watch_body::<Body>(request).map(Body::new))
            .layer(http(&manager));
        let request = Request::post("/").header("x-user-id", "alice").body(Body::from("hello")).unwrap();
        let begun = Instant::now();
        let response = Router::new().fallback(handler).layer(stack).oneshot(request).await.unwrap();
        (response.status().as_u16(), begun.elapsed().as_secs(), lines.take(STAYS))
    };
    // Read in time: no line, and the whole timeout counts from there.
    assert_eq!(call(9).await, (202, 19, vec![]));
    // Read late: one line, and the whole timeout counts from there.
    let (status, elapsed, lines) = call(30).await;
    assert_eq!((status, elapsed), (202, 40));
    let [line] = &lines[..] else { panic!("not one line: {lines:?}") };
    assert!(line.contains("its request body has not been read to its end"), "{line}");
    assert_eq!(manager.stats().admitted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_line_says_why_a_late_tool_call_stays() {
    let (lines, _guard) = Lines::collect();
    let answer = async |policy: ToolPolicy, call: ToolCall| {
        let layer = OffloadLayer::for_tools(TaskManager::new(), TIMEOUT).describe(policy);
        let tool = service_fn(async |_: ToolCall| {
            tokio::time::sleep(SLOW).await;
            Ok::<_, std::convert::Infallible>(ToolResponse::text("call_1", "42"))
        });
        ServiceBuilder::new().layer(layer).service(tool).oneshot(call).await.unwrap()
    };
    let ask = ToolCall::new("Ask", "{}").with_user("alice").with_session("s1");
    assert_eq!(answer(ToolPolicy::new().never("Ask"), ask).await.display_text().to_string(), "42");
    assert_eq!(lines.take("a rule of the tool policy keeps it").len(), 1);
    let call = ToolCall::new("Bash", "{}").with_user("alice");
    assert_eq!(answer(ToolPolicy::new(), call).await.display_text().to_string(), "42");
    assert_eq!(lines.take("no user or no session").len(), 1);
}
