use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::{Layer, Service, ServiceExt};
use tower_offload::http::HttpOffloadLayer;
use tower_offload::task::{BackgroundTaskInfo, Scope};
use tower_offload::{TaskManager, TaskRecord};

/// The timeout of the layers, unless the test is about it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long slow work takes.
pub(crate) const SLOW: Duration = Duration::from_secs(60);

pub(crate) fn layer(manager: &TaskManager) -> HttpOffloadLayer {
    tower_offload::http::layer(manager.clone(), TIMEOUT)
}

/// Answers `response` after `time`.
pub(crate) fn answers_after<B: Clone + Send + 'static>(
    time: Duration,
    response: Response<B>,
) -> impl Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone {
    tower::service_fn(move |_| {
        let response = response.clone();
        async move {
            tokio::time::sleep(time).await;
            Ok(response)
        }
    })
}

use crate::patience::PATIENCE;

/// What slow work behind `layer` answers to `request`.
pub(crate) async fn slow<L>(layer: L, request: Request<Body>) -> Response<Body>
where
    L: Layer<axum::routing::Route>,
    L: Clone + Send + Sync + 'static,
    L::Service: Service<axum::extract::Request, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let handler = || async {
        tokio::time::sleep(SLOW).await;
        "the report"
    };
    Router::new().fallback(handler).layer(layer).oneshot(request).await.unwrap()
}

/// `POST /reports/17` by alice.
pub(crate) fn post() -> Request<Body> {
    request("POST", "/reports/17", &[("x-user-id", b"alice")])
}

pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

pub(crate) async fn body<B>(response: Response<B>) -> Vec<u8>
where
    B: BodyExt<Error: std::fmt::Debug>,
{
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

pub(crate) async fn info(response: Response<Body>) -> BackgroundTaskInfo {
    assert_eq!(response.status(), 202);
    serde_json::from_slice(&body(response).await).unwrap()
}

/// The user's tasks.
pub(crate) async fn tasks(manager: &TaskManager, user: &str) -> Vec<TaskRecord> {
    manager.list(&Scope::user(user)).await.unwrap()
}

/// Alice's one task, once it has ended.
pub(crate) async fn ended(manager: &TaskManager) -> TaskRecord {
    let [task] = &tasks(manager, "alice").await[..] else { panic!("not one task") };
    manager.wait(&Scope::user("alice"), task.id).await.unwrap().unwrap()
}

/// Sends when it is dropped.
pub(crate) struct OnDrop(Option<oneshot::Sender<()>>);

pub(crate) fn on_drop() -> (OnDrop, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (OnDrop(Some(sender)), receiver)
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

/// Fails a test over real sockets that would wait forever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("still waiting")
}

/// A real server for `app`.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A connection on which `request` was sent.
pub(crate) async fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// All that the server sends in answer to a request that asks for the end of the connection.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
    assert!(request.contains("connection: close"));
    let mut answer = Vec::new();
    send(address, request).await.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}
