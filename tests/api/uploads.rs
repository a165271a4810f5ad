//! Requests that are still being sent: some clients stop as soon as they see an answer, so none comes before the end of
//! the upload.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{any, post};
use futures_util::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_offload::http::Rule;
use tower_offload::task::{Scope, TaskRecord};
use tower_offload::{BackgroundTasks, TaskManager, TaskStatus};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Alice's one task, once it has ended.
async fn ended(manager: &TaskManager) -> TaskRecord {
    let alice = Scope::user("alice");
    let [task] = &manager.list(&alice).await.unwrap()[..] else { panic!("not one task") };
    manager.wait(&alice, task.id).await.unwrap().unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("still waiting")
}

use crate::patience::PATIENCE;

/// A server whose handler reads the body frame by frame, says how long each is, and works until it is released.
struct Upload {
    address: SocketAddr,
    frames: mpsc::UnboundedReceiver<usize>,
    release: Arc<Notify>,
}

async fn upload(manager: &TaskManager) -> Upload {
    let (frame, frames) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let handler = move |body: Body| async move {
        let mut body = body.into_data_stream();
        let mut total = 0;
        while let Some(bytes) = body.next().await {
            // The task fails where the upload is lost.
            let Ok(bytes) = bytes else { return Err(http::StatusCode::BAD_REQUEST) };
            total += bytes.len();
            frame.send(bytes.len()).unwrap();
        }
        released.notified().await;
        Ok(total.to_string())
    };
    let tasks = BackgroundTasks::new(manager.clone());
    let app = Router::new().route("/uploads", post(handler)).layer(tasks.layer(Duration::ZERO));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Upload { address, frames, release }
}

#[tokio::test]
async fn an_upload_is_answered_when_it_is_there() {
    for (framing, chunks) in [
        ("content-length: 10", ["hello", "world"]),
        ("transfer-encoding: chunked", ["5\r\nhello\r\n", "5\r\nworld\r\n0\r\nx-checksum: 1\r\n\r\n"]),
    ] {
        let manager = TaskManager::new();
        let mut upload = upload(&manager).await;
        let mut stream = TcpStream::connect(upload.address).await.unwrap();
        let head = format!("POST /uploads HTTP/1.1\r\nhost: t\r\nx-user-id: alice\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(chunks[0].as_bytes()).await.unwrap();
        assert_eq!(within(upload.frames.recv()).await, Some(5));
        // The handler waits for more now, the timeout is zero, and this runs on its thread.
        assert_eq!(manager.stats().admitted, 0, "{framing}");

        // A client that sees an answer stops here.
        assert!(stream.try_read(&mut [0; 1]).is_err(), "nothing is answered yet");
        stream.write_all(chunks[1].as_bytes()).await.unwrap();
        assert_eq!(within(upload.frames.recv()).await, Some(5));
        let mut answer = [0; 12];
        within(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202");
        upload.release.notify_one();
        assert_eq!(within(ended(&manager)).await.status, TaskStatus::Completed);
    }
}

/// A body that is sent through a channel.
fn channel() -> (mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, Request<Body>) {
    let (sender, mut frames) = mpsc::unbounded_channel();
    let body = Body::from_stream(futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx)));
    (sender, Request::post("/").header("x-user-id", "alice").body(body).unwrap())
}

fn layered(handler: axum::routing::MethodRouter) -> (TaskManager, Router) {
    let manager = TaskManager::new();
    let layer = BackgroundTasks::new(manager.clone()).layer(TIMEOUT);
    (manager, Router::new().fallback_service(handler.layer(layer)))
}

async fn slowly() {
    tokio::time::sleep(Duration::from_secs(1000)).await;
}

#[tokio::test(start_paused = true)]
async fn the_timeout_counts_from_the_last_byte() {
    let (manager, app) = layered(any(async |body: Bytes| {
        slowly().await;
        assert_eq!(body.len(), 6);
    }));
    let (sender, request) = channel();
    let begun = Instant::now();
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            sender.send(Ok(Bytes::from_static(b"ab"))).unwrap();
        }
    });
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
    assert_eq!(begun.elapsed(), Duration::from_secs(60) + TIMEOUT);
    assert_eq!(ended(&manager).await.status, TaskStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_another_task_reads_counts_as_read_then() {
    let (_manager, app) = layered(any(async |body: Body| {
        // The handler itself is not polled again.
        tokio::spawn(body.collect());
        slowly().await;
    }));
    let (sender, request) = channel();
    let begun = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(sender);
    });
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
    assert_eq!(begun.elapsed(), Duration::from_secs(20) + TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_or_breaks_counts_as_read() {
    // Dropped by axum, since the handler does not take it.
    let (_manager, app) = layered(any(slowly));
    let (_sender, request) = channel();
    let begun = Instant::now();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
    assert_eq!(begun.elapsed(), TIMEOUT);

    // Dropped by the handler, in the middle.
    let (_manager, app) = layered(any(async |body: Body| {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(body);
        slowly().await;
    }));
    let (_sender, request) = channel();
    let begun = Instant::now();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
    assert_eq!(begun.elapsed(), Duration::from_secs(30) + TIMEOUT);

    // Ended by an error, and kept.
    let (_manager, app) = layered(any(async |mut body: Body| {
        assert!(body.frame().await.unwrap().is_err());
        slowly().await;
        drop(body);
    }));
    let (sender, request) = channel();
    sender.send(Err(std::io::Error::other("reset"))).unwrap();
    let begun = Instant::now();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
    assert_eq!(begun.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn trailers_come_through_and_are_the_end() {
    let (_manager, app) = layered(any(async |mut body: Body| {
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            if let Ok(found) = frame.unwrap().into_trailers() {
                trailers = Some(found);
                // The end is not read.
                break;
            }
        }
        assert_eq!(trailers.unwrap()["x-checksum"], "1");
        slowly().await;
        drop(body);
    }));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    let frames = [http_body::Frame::data(Bytes::from_static(b"a")), http_body::Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let request = Request::post("/").header("x-user-id", "alice");
    let request = request.body(Body::new(StreamBody::new(frames))).unwrap();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202);
}

#[tokio::test(start_paused = true)]
async fn what_a_body_says_of_its_size_stays_exact() {
    use http_body::Body as _;

    let (_manager, app) = layered(any(async |mut body: Body| {
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        body.frame().await.unwrap().unwrap();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        slowly().await;
        drop(body);
    }));
    let request = Request::post("/").header("x-user-id", "alice").body(Body::from("hello")).unwrap();
    let begun = Instant::now();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 202, "read to its end, and kept");
    assert_eq!(begun.elapsed(), TIMEOUT);
}

/// A handler that keeps its body and never reads it.
async fn keeps_its_body(body: Body) {
    slowly().await;
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn a_host_can_replace_the_rule_for_watched_bodies() {
    let answered = async |stays: bool, read: bool| {
        let manager = TaskManager::new();
        let layer = BackgroundTasks::new(manager).layer(TIMEOUT);
        let layer = layer.describe(|describe| describe.rule(Rule::Body, move |_| stays));
        let handler = if read { any(async |_: Bytes| slowly().await) } else { any(keeps_its_body) };
        let (sender, request) = channel();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(sender);
        });
        let begun = Instant::now();
        let app = Router::new().fallback_service(handler.layer(layer));
        (app.oneshot(request).await.unwrap().status().as_u16(), begun.elapsed())
    };
    // The rule keeps no call, so that no call waits for its body.
    assert_eq!(answered(false, false).await, (202, TIMEOUT));
    assert_eq!(answered(false, true).await, (202, TIMEOUT));
    // The rule keeps the call, as long as the body has not been read.
    assert_eq!(answered(true, true).await, (202, Duration::from_secs(20) + TIMEOUT));
    assert_eq!(answered(true, false).await, (200, Duration::from_secs(1000)));
}

/// Node's `fetch` stops sending when it sees an answer.
#[tokio::test]
async fn an_upload_of_node_arrives_whole() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        println!("SKIPPED: node is not installed, so that its fetch is not tried");
        return;
    }
    let manager = TaskManager::new();
    let mut upload = upload(&manager).await;
    let script = "
        let left = 5;
        const body = new ReadableStream({
            async pull(controller) {
                await new Promise((resolve) => setTimeout(resolve, 20));
                if (left-- > 0) controller.enqueue(new TextEncoder().encode('a'.repeat(1000)));
                else controller.close();
            },
        });
        fetch(process.argv[1], { method: 'POST', body, duplex: 'half', headers: { 'X-User-ID': 'alice' } })
            .then(async (response) => {
                await response.text();
                console.log(response.status, left);
            });";
    let mut node = tokio::process::Command::new("node");
    node.args(["-e", script, &format!("http://{}/uploads", upload.address)]).kill_on_drop(true);
    let output = within(node.output()).await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "202 -1\n", "all is sent before the answer is there");
    let mut total = 0;
    while total < 5000 {
        total += within(upload.frames.recv()).await.expect("the upload broke off");
    }
    upload.release.notify_one();
    assert_eq!(within(ended(&manager)).await.status, TaskStatus::Completed);
}
