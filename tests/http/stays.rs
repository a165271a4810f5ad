//! What the log says of late calls that stay in the foreground.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::future::join_all;
use http::Request;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_offload::TaskManager;
use tower_offload::http::{DescribeRequest, RequestHead, Unidentified, watch_body};
use tower_offload::offload::OnDisconnect;

use crate::log::Lines;
use crate::support::{SLOW, layer, post, request, slow};

/// What each of the lines says.
const STAYS: &str = "a late call stays";

/// All in one test: the lines are limited for the whole process.
#[tokio::test(start_paused = true)]
async fn one_line_says_why_late_calls_stay() {
    let (lines, _guard) = Lines::collect();
    let manager = TaskManager::new();

    // In time: no line.
    let fast = Router::new().fallback(async || "at once").layer(layer(&manager));
    assert_eq!(fast.oneshot(request("POST", "/", &[])).await.unwrap().status(), 200);
    assert_eq!(lines.take(STAYS), [""; 0]);

    // A flood of late ones at once: one line.
    for answer in join_all((0..100).map(|_| slow(layer(&manager), request("POST", "/", &[])))).await {
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
        for answer in join_all((0..3).map(|_| slow(layer(&manager), request(method, "/", &headers)))).await {
            assert_eq!(answer.status(), 200);
        }
        let [line] = &lines.take(STAYS)[..] else { panic!("not one line: {reason}") };
        assert!(line.contains(reason), "{line}");
    }
    let excluding = DescribeRequest::new().only(|_| false);
    assert_eq!(slow(layer(&manager).describe(excluding), post()).await.status(), 200);
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
        let stack = tower::ServiceBuilder::new()
            .map_request(|request| watch_body::<Body>(request).map(Body::new))
            .layer(layer(&manager));
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
async fn a_call_that_stays_goes_with_its_caller() {
    let manager = TaskManager::new();
    let layer = layer(&manager).on_disconnect(OnDisconnect::HandOver);
    let call = slow(layer, request("POST", "/", &[]));
    tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_panics_identifies_no_user() {
    fn boom(_: &RequestHead<'_>) -> Result<String, Unidentified> {
        /// A payload that panics once more.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and again");
            }
        }
        std::panic::panic_any(Bomb)
    }
    let manager = TaskManager::new();
    let describe = DescribeRequest::new().identity(boom);
    assert_eq!(slow(layer(&manager).describe(describe), post()).await.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
}
