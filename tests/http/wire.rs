//! What goes over a real socket.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{HeaderMap, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;
use tower_offload::http::watch_body;
use tower_offload::task::BackgroundTaskInfo;
use tower_offload::{TaskManager, TaskStatus};

use crate::support::{ended, exchange, serve, tasks, within};

fn without_date(answer: &str) -> String {
    answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

fn routes() -> Router {
    Router::new()
        .route("/text", get(|| async { ([("set-cookie", "a=1"), ("x-extra", "7")], "the report") }))
        .route(
            "/yielding",
            get(|| async {
                tokio::task::yield_now().await;
                "the report"
            }),
        )
        .route("/echo", post(|headers: HeaderMap, body: String| async move { format!("{headers:?} {body}") }))
}

#[tokio::test]
async fn an_answer_in_time_is_the_same_byte_for_byte() {
    let manager = TaskManager::new();
    let plain = serve(routes()).await;
    let layered =
        serve(routes().layer(tower_offload::http::layer(manager.clone(), Duration::from_secs(3600)))).await;
    for line in ["GET /text", "HEAD /text", "GET /yielding", "GET /missing", "DELETE /text", "POST /echo"] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nx-user-id: alice\r\ncontent-length: 5\r\nconnection: close\r\n\
             \r\nhello"
        );
        let expected = without_date(&within(exchange(plain, &request)).await);
        assert!(expected.starts_with("HTTP/1.1 "), "{expected}");
        assert_eq!(without_date(&within(exchange(layered, &request)).await), expected);
    }
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test]
async fn a_user_of_any_size_is_served() {
    let manager = TaskManager::new();
    let app = routes().layer(tower_offload::http::layer(manager.clone(), Duration::ZERO));
    let address = serve(app).await;
    for user in ["", &"a".repeat(10_000), "  "] {
        let request = format!(
            "GET /yielding HTTP/1.1\r\nhost: localhost\r\nx-user-id: {user}\r\nconnection: close\r\n\r\n"
        );
        let answer = within(exchange(address, &request)).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(manager.stats().admitted, 0);
}

/// The status line, the headers with their names in lower case, and a body of the length that they say.
async fn read_answer(stream: &mut BufReader<tokio::net::TcpStream>) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

#[tokio::test]
async fn a_connection_can_be_used_again_after_a_hand_over() {
    let manager = TaskManager::new();
    let (release, released) = tokio::sync::watch::channel(false);
    let handler = move |body: String| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            assert_eq!(body, "hello");
        }
    };
    let app = Router::new()
        .route("/reports", post(handler))
        .layer(
            ServiceBuilder::new()
                .map_request(|request: Request<Body>| watch_body(request).map(Body::new))
                .layer(tower_offload::http::layer(manager.clone(), Duration::ZERO)),
        )
        .route("/fast", get(|| async { "still here" }));
    let stream = tokio::net::TcpStream::connect(serve(app).await).await.unwrap();
    let mut stream = BufReader::new(stream);

    let request =
        "POST /reports HTTP/1.1\r\nhost: localhost\r\nx-user-id: alice\r\ncontent-length: 5\r\n\r\nhello";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, body) = within(read_answer(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 202 Accepted\r\n"), "{head}");
    let info: BackgroundTaskInfo = serde_json::from_slice(&body).unwrap();
    let [task] = &tasks(&manager, "alice").await[..] else { panic!("not one task") };
    assert_eq!(info, BackgroundTaskInfo::from(task));
    for line in [
        format!("location: /background-tasks/{}", task.id),
        "content-type: application/json".to_owned(),
        "cache-control: no-store".to_owned(),
    ] {
        assert!(head.lines().any(|l| l == line), "{line} is not in {head}");
    }

    stream.write_all(b"GET /fast HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (head, body) = within(read_answer(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, b"still here");

    release.send_replace(true);
    assert_eq!(within(ended(&manager)).await.status, TaskStatus::Completed);
}
