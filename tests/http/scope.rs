//! Which calls may be handed over.

use axum::body::Body;
use http::{Method, Request};
use tower_offload::TaskManager;
use tower_offload::http::DescribeRequest;

use crate::support::{layer, request, slow};

async fn status(method: &str, headers: &[(&str, &[u8])]) -> u16 {
    let manager = TaskManager::new();
    let mut request = request(method, "/", headers);
    request.headers_mut().insert("x-user-id", "alice".parse().unwrap());
    slow(layer(&manager), request).await.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn every_method_may_be_handed_over() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        assert_eq!(status(method, &[]).await, 202, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_a_connection_keeps_waiting() {
    assert_eq!(status("GET", &[("connection", b"Upgrade"), ("upgrade", b"websocket")]).await, 200);
    assert_eq!(status("POST", &[("connection", b"Upgrade"), ("upgrade", b"tcp")]).await, 200);
    assert_eq!(status("GET", &[("upgrade", b"h2c"), ("upgrade", b"websocket")]).await, 200);
    let offer: &[(&str, &[u8])] = &[("connection", b"Upgrade, HTTP2-Settings"), ("upgrade", b"H2C")];
    assert_eq!(status("POST", offer).await, 202, "an offer of h2c goes with any request");
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_never_handed_over() {
    let manager = TaskManager::new();
    let request =
        Request::builder().method(Method::CONNECT).uri("example.org:443").header("x-user-id", "alice");
    let response = slow(layer(&manager), request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_only_events_keeps_waiting() {
    assert_eq!(status("GET", &[("accept", b"text/event-stream")]).await, 200);
    assert_eq!(status("POST", &[("accept", b"text/event-stream")]).await, 200);
    assert_eq!(status("GET", &[("accept", b"application/json, text/event-stream")]).await, 202);
    assert_eq!(status("POST", &[("accept", b"application/json, text/event-stream")]).await, 202);
}

#[tokio::test(start_paused = true)]
async fn a_closure_says_which_calls_may() {
    let manager = TaskManager::new();
    let layer = layer(&manager).describe(DescribeRequest::new().only(|head| head.uri().path() == "/reports"));
    let headers: &[(&str, &[u8])] = &[("x-user-id", b"alice")];
    assert_eq!(slow(layer.clone(), request("POST", "/chat", headers)).await.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
    assert_eq!(slow(layer, request("POST", "/reports", headers)).await.status(), 202);
}
