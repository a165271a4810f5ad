//! What is done in time is answered as if the layer were not there.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Response, Version};
use tower::{Layer, ServiceExt};
use tower_offload::TaskManager;

use crate::support::{SLOW, TIMEOUT, answers_after, body, layer, post, request};

#[derive(Clone, Debug, PartialEq)]
struct Extra(u8);

fn answer() -> Response<String> {
    let mut response = Response::builder()
        .status(418)
        .version(Version::HTTP_10)
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .header("x-bytes", &b"\xff\xfe"[..])
        .body("short and stout".to_owned())
        .unwrap();
    response.extensions_mut().insert(Extra(7));
    response
}

async fn is_untouched(time: Duration) {
    let manager = TaskManager::new();
    let (head, got) = layer_over(&manager, time).await.into_parts();
    let (expected, text) = answer().into_parts();
    assert_eq!(head.status, expected.status);
    assert_eq!(head.version, expected.version);
    assert_eq!(head.headers, expected.headers);
    assert_eq!(head.extensions.get(), Some(&Extra(7)));
    assert_eq!(got, text.into_bytes());
    assert_eq!(manager.stats().admitted, 0);
}

async fn layer_over(manager: &TaskManager, time: Duration) -> Response<Vec<u8>> {
    let service = answers_after(time, answer().map(bytes::Bytes::from).map(http_body_util::Full::new));
    let response = layer(manager).layer(service).oneshot(post()).await.unwrap();
    let (head, inner) = response.into_parts();
    Response::from_parts(head, body(Response::new(inner)).await)
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_once_is_untouched() {
    is_untouched(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_just_in_time_is_untouched() {
    is_untouched(TIMEOUT - Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_response_head_has_to_be_in_time() {
    let manager = TaskManager::new();
    let handler = || async {
        Body::from_stream(futures_util::stream::once(async {
            tokio::time::sleep(SLOW).await;
            Ok::<_, std::convert::Infallible>("at last")
        }))
    };
    let app = Router::new().fallback(handler).layer(layer(&manager));
    let response = app.oneshot(request("GET", "/", &[("x-user-id", b"alice")])).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(body(response).await, b"at last");
    assert_eq!(manager.stats().admitted, 0);
}
