//! The layer among others.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_offload::http::{
    Caller, ClassifyStatus, DescribeRequest, HttpCall, HttpOffloadLayer, RequestHead, RespondAccepted,
};
use tower_offload::offload::Offload;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

use crate::support::{SLOW, TIMEOUT, answers_after, info, layer, request, tasks};

/// What a server needs of a service that it makes a copy of for each connection.
fn is_servable<S, B>(_: &S)
where
    S: Service<Request<Body>, Response = Response<B>, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
}

fn is_plain<T: Clone + Debug + Send + Sync + 'static>() {}

#[test]
fn everything_can_be_shared_between_threads() {
    is_plain::<HttpOffloadLayer>();
    is_plain::<DescribeRequest>();
    is_plain::<RespondAccepted>();
    is_plain::<RespondAccepted<fn(Bytes) -> Body>>();
    is_plain::<ClassifyStatus>();
    is_plain::<Caller>();
    is_plain::<HttpCall>();
    is_plain::<RequestHead<'static>>();
    let manager = TaskManager::new();
    is_servable(&layer(&manager).layer(answers_after(SLOW, Response::new(Full::new(Bytes::new())))));
}

/// The type can be written down.
struct Server {
    service:
        Offload<Router, tower_offload::offload::Hooks<DescribeRequest, RespondAccepted, ClassifyStatus, ()>>,
}

#[tokio::test(start_paused = true)]
async fn a_whole_router_can_be_wrapped() {
    let manager = TaskManager::new();
    let router = Router::new().route("/reports", post(|| tokio::time::sleep(SLOW)));
    let server = Server { service: layer(&manager).layer(router) };
    is_servable(&server.service);
    let request = request("POST", "/reports", &[("x-user-id", b"alice")]);
    assert_eq!(server.service.oneshot(request).await.unwrap().status(), 202);
}

#[tokio::test(start_paused = true)]
async fn it_stands_in_a_stack_with_others() {
    let manager = TaskManager::new();
    let inner = answers_after(SLOW, Response::new(Full::new(Bytes::new())));
    // A layer inside changes the error type, one outside sets who calls, and all of it is boxed.
    let service = ServiceBuilder::new()
        .map_request(|mut request: Request<Body>| {
            request.extensions_mut().insert(Caller::new("alice"));
            request
        })
        .option_layer(Some(layer(&manager)))
        .timeout(Duration::from_secs(30))
        .service(inner);
    let service = BoxCloneSyncService::new(service);
    let response = service.oneshot(request("POST", "/", &[])).await.unwrap();
    assert_eq!(response.status(), 202);
    let task = crate::support::ended(&manager).await;
    assert_eq!(task.error_summary.as_deref(), Some("request timed out"));
}

#[tokio::test(start_paused = true)]
async fn nested_routers_keep_their_layer() {
    let manager = TaskManager::new();
    let handler = || tokio::time::sleep(SLOW);
    let inner = Router::new().route("/{id}", post(handler)).layer(layer(&manager));
    let app = Router::new().nest("/reports", inner).route("/outside", post(handler));
    let headers: &[(&str, &[u8])] = &[("x-user-id", b"alice")];

    let response = app.clone().oneshot(request("POST", "/reports/17", headers)).await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let info = info(response).await;
    assert_eq!(location, format!("/background-tasks/{}", info.task_id), "from the root of the server");
    assert_eq!(info.summary, "POST /17", "the path as the layer sees it");

    assert_eq!(app.oneshot(request("POST", "/outside", headers)).await.unwrap().status(), 200);
    assert_eq!(manager.stats().admitted, 1);
}

#[tokio::test(start_paused = true)]
async fn hooks_can_be_used_one_by_one() {
    let manager = TaskManager::new();
    // Ours describes, a closure answers.
    let layer = OffloadLayer::new(manager.clone(), TIMEOUT)
        .describe(DescribeRequest::new())
        .respond(|task: &TaskRecord| Response::builder().status(303).body(task.id.to_string()).unwrap());
    let service = layer.layer(answers_after(SLOW, Response::new(String::new())));
    let response = service.oneshot(request("POST", "/", &[("x-user-id", b"alice")])).await.unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(response.into_body(), tasks(&manager, "alice").await[0].id.to_string());

    // A closure describes, ours answers; the requests need not be HTTP at all.
    let layer = OffloadLayer::new(manager.clone(), TIMEOUT)
        .describe(|user: &&'static str| Some(TaskMeta::new(*user, "report")))
        .respond(RespondAccepted::new())
        .classify(ClassifyStatus::new());
    let service = layer.layer(tower::service_fn(|_: &'static str| async {
        tokio::time::sleep(SLOW).await;
        Ok::<_, Infallible>(Response::new(Bytes::new()))
    }));
    let response = service.oneshot("bob").await.unwrap();
    assert_eq!(
        response.headers()["location"],
        format!("/background-tasks/{}", tasks(&manager, "bob").await[0].id)
    );
}
