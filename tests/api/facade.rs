//! The layer and the routes from one value: one identity, one prefix.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_offload::api::ProblemDetails;
use tower_offload::bus::SharedBus;
use tower_offload::http::{Caller, DescribeRequest, Identity, RequestHead, RespondAccepted, Unidentified};
use tower_offload::{BackgroundTasks, MemoryBus, TaskManager};

use crate::flaky_bus::FlakyBus;

const TIMEOUT: Duration = Duration::from_secs(10);

async fn send(app: &Router, method: &str, uri: &str, headers: &[(&str, &str)]) -> Response {
    let request = http::Request::builder().method(method).uri(uri);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn total(app: &Router, uri: &str, headers: &[(&str, &str)]) -> (u16, Option<u64>) {
    let response = send(app, "GET", uri, headers).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (status, body["total"].as_u64())
}

/// Good tokens are `token-` and the user.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if let Some(user) = token.and_then(|token| token.strip_prefix("Bearer token-")) {
        let caller = Caller::new(user);
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

fn app(tasks: &BackgroundTasks) -> Router {
    Router::new()
        .route("/reports", post(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .layer(tasks.layer(TIMEOUT))
        .merge(tasks.router())
        .layer(axum::middleware::from_fn(authenticate))
        .with_state(())
}

const ALICE: (&str, &str) = ("authorization", "Bearer token-alice");
const BOB: (&str, &str) = ("authorization", "Bearer token-bob");
const CLAIMS_ALICE: (&str, &str) = ("x-user-id", "alice");

#[tokio::test(start_paused = true)]
async fn a_host_says_once_that_no_header_is_believed() {
    let tasks = BackgroundTasks::builder(TaskManager::new()).identify(Identity::extension_only()).build();
    // Even a host that changes the description of calls and says something else there.
    let layer = tasks.layer(TIMEOUT).describe(|_| DescribeRequest::new().identity(Identity::new()));
    let other = Router::new()
        .route("/other", post(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .layer(layer)
        .layer(axum::middleware::from_fn(authenticate));
    let app = app(&tasks).merge(other);

    for path in ["/reports", "/other"] {
        assert_eq!(send(&app, "POST", path, &[CLAIMS_ALICE]).await.status(), 200, "stays in the foreground");
        assert_eq!(send(&app, "POST", path, &[ALICE]).await.status(), 202);
        assert_eq!(send(&app, "POST", path, &[ALICE, ("x-user-id", "bob")]).await.status(), 202);
    }
    assert_eq!(total(&app, "/background-tasks", &[ALICE]).await, (200, Some(4)));
    assert_eq!(total(&app, "/background-tasks", &[BOB]).await, (200, Some(0)));
    assert_eq!(total(&app, "/background-tasks", &[BOB, CLAIMS_ALICE]).await, (200, Some(0)));
    assert_eq!(total(&app, "/background-tasks", &[CLAIMS_ALICE]).await, (401, None));

    // The document does not tell clients to send a header that is not read.
    let document = tasks.openapi().to_json().unwrap();
    assert!(!document.contains("securitySchemes") && !document.contains("userId"), "{document}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_the_extensions_comes_before_the_header_for_both() {
    let tasks = BackgroundTasks::new(TaskManager::new());
    let app = app(&tasks);
    assert_eq!(send(&app, "POST", "/reports", &[BOB, CLAIMS_ALICE]).await.status(), 202);
    assert_eq!(total(&app, "/background-tasks", &[BOB, CLAIMS_ALICE]).await, (200, Some(1)));
    assert_eq!(total(&app, "/background-tasks", &[CLAIMS_ALICE]).await, (200, Some(0)));
    // An empty caller is no user, whatever the header says.
    let nobody = ("authorization", "Bearer token-");
    assert_eq!(send(&app, "POST", "/reports", &[nobody, CLAIMS_ALICE]).await.status(), 200);
    assert_eq!(total(&app, "/background-tasks", &[nobody, CLAIMS_ALICE]).await, (401, None));
    let long = format!("Bearer token-{}", "a".repeat(257));
    assert_eq!(send(&app, "POST", "/reports", &[("authorization", &long)]).await.status(), 200);
    assert_eq!(total(&app, "/background-tasks", &[("authorization", &long)]).await, (400, None));
}

#[tokio::test(start_paused = true)]
async fn one_closure_serves_both() {
    let identity = |head: &RequestHead<'_>| match head.headers().get("x-tenant") {
        Some(tenant) if tenant == "panics" => panic!("a hook that panics"),
        Some(tenant) => Ok(tenant.to_str().unwrap().to_owned()),
        None => Err(Unidentified::new("Which tenant?")),
    };
    let tasks = BackgroundTasks::builder(TaskManager::new()).identify(identity).build();
    let app = app(&tasks);
    assert_eq!(send(&app, "POST", "/reports", &[CLAIMS_ALICE]).await.status(), 200);
    assert_eq!(send(&app, "POST", "/reports", &[("x-tenant", "acme"), CLAIMS_ALICE]).await.status(), 202);
    assert_eq!(total(&app, "/background-tasks", &[("x-tenant", "acme")]).await, (200, Some(1)));
    assert_eq!(total(&app, "/background-tasks", &[CLAIMS_ALICE]).await, (401, None));
    // A panic costs neither the call nor the connection.
    assert_eq!(send(&app, "POST", "/reports", &[("x-tenant", "panics")]).await.status(), 200);
    assert_eq!(total(&app, "/background-tasks", &[("x-tenant", "panics")]).await, (401, None));
}

#[tokio::test(start_paused = true)]
async fn another_header_is_read_by_both_and_documented() {
    let header = http::HeaderName::from_static("x-account");
    let tasks = BackgroundTasks::builder(TaskManager::new()).identify(Identity::header(header)).build();
    let app = app(&tasks);
    assert_eq!(send(&app, "POST", "/reports", &[("x-account", "alice")]).await.status(), 202);
    assert_eq!(send(&app, "POST", "/reports", &[CLAIMS_ALICE]).await.status(), 200);
    assert_eq!(total(&app, "/background-tasks", &[("x-account", "alice")]).await, (200, Some(1)));
    assert!(tasks.openapi().to_json().unwrap().contains("\"name\":\"x-account\""));
}

#[tokio::test(start_paused = true)]
async fn a_prefix_is_said_once() {
    for (prefix, path) in
        [("", ""), ("/api/v1", "/api/v1"), ("api/v1/", "/api/v1"), ("/{x}/a b", "/%7Bx%7D/a%20b")]
    {
        let tasks = BackgroundTasks::builder(TaskManager::new()).prefix(prefix).build();
        // A change of the answer does not move it.
        let layer = tasks.layer(TIMEOUT).respond(|_| RespondAccepted::new().location_prefix("/elsewhere"));
        let other = Router::new()
            .route("/other", post(async || tokio::time::sleep(Duration::from_secs(60)).await))
            .layer(layer);
        let app = app(&tasks).merge(other);
        for report in ["/reports", "/other"] {
            let accepted = send(&app, "POST", report, &[CLAIMS_ALICE]).await;
            assert_eq!(accepted.status(), 202);
            let location = accepted.headers()["location"].to_str().unwrap().to_owned();
            assert!(location.starts_with(&format!("{path}/background-tasks/")), "{location}");
            assert_eq!(send(&app, "GET", &location, &[CLAIMS_ALICE]).await.status(), 200, "{location}");
        }
        let list = format!("{path}/background-tasks");
        assert_eq!(total(&app, &list, &[CLAIMS_ALICE]).await, (200, Some(2)));
        let missing = send(&app, "POST", &list, &[CLAIMS_ALICE]).await;
        assert_eq!(missing.status(), 405);
        if !path.is_empty() {
            assert_eq!(send(&app, "GET", "/background-tasks", &[CLAIMS_ALICE]).await.status(), 404);
        }

        // Of its own document the server, of a host's document the paths.
        let document = serde_json::to_value(tasks.openapi()).unwrap();
        assert_eq!(document["servers"][0]["url"], if path.is_empty() { "/" } else { path });
        assert!(document["paths"]["/background-tasks"].is_object());
        let (router, document) = tasks.openapi_router::<()>().split_for_parts();
        let document = serde_json::to_value(document).unwrap();
        assert!(document["paths"][&list]["get"].is_object(), "{document}");
        assert_eq!(document["paths"].as_object().unwrap().len(), 2);
        assert_eq!(document["tags"].as_array().unwrap().len(), 1);
        assert_eq!(document["components"]["schemas"].as_object().unwrap().len(), 5);
        assert_eq!(document["info"]["title"], "Background tasks");
        assert_eq!(total(&router, &list, &[CLAIMS_ALICE]).await, (200, Some(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_for_the_tasks_is_never_a_task() {
    let bus = FlakyBus::on(MemoryBus::new());
    // Each list takes longer than the layer waits.
    bus.slow_always("tasks", 3 * TIMEOUT);
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    for prefix in ["", "/api/v1"] {
        let tasks = BackgroundTasks::builder(manager.clone()).prefix(prefix).build();
        let slow = || post(async || tokio::time::sleep(Duration::from_secs(60)).await);
        // The routes are inside of the layer, and so is one whose path only begins like theirs.
        let routes =
            Router::new().route(&format!("{prefix}/background-tasks-of-mine"), slow()).merge(tasks.router());
        let layers = [
            tasks.layer(TIMEOUT),
            // A describer of the host's own loses nothing that the layer and the routes have in common.
            tasks.layer(TIMEOUT).describe(|_| DescribeRequest::new()),
        ];
        for layer in layers {
            let app = routes.clone().layer(layer);
            let before = manager.stats().admitted;
            let (status, _) = total(&app, &format!("{prefix}/background-tasks"), &[CLAIMS_ALICE]).await;
            assert_eq!((status, manager.stats().admitted), (200, before));
            let other =
                send(&app, "POST", &format!("{prefix}/background-tasks-of-mine"), &[CLAIMS_ALICE]).await;
            assert_eq!((other.status().as_u16(), manager.stats().admitted), (202, before + 1));
        }
        let plain = tower_offload::http::layer(manager.clone(), TIMEOUT)
            .describe(tasks.describe_requests())
            .respond(tasks.respond_accepted());
        let app = routes.layer(plain);
        let before = manager.stats().admitted;
        let (status, _) = total(&app, &format!("{prefix}/background-tasks"), &[CLAIMS_ALICE]).await;
        assert_eq!((status, manager.stats().admitted), (200, before));
    }
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_the_facade_agree_with_its_routes_in_any_layer() {
    let manager = TaskManager::new();
    let tasks =
        BackgroundTasks::builder(manager.clone()).identify(Identity::extension_only()).prefix("/api").build();
    let layer = tower_offload::http::layer(manager, TIMEOUT)
        .describe(tasks.describe_requests())
        .respond(tasks.respond_accepted());
    let app = Router::new()
        .route("/reports", get(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .layer(layer)
        .merge(tasks.clone().router())
        .layer(axum::middleware::from_fn(authenticate));
    assert_eq!(send(&app, "GET", "/reports", &[CLAIMS_ALICE]).await.status(), 200);
    let accepted = send(&app, "GET", "/reports", &[ALICE]).await;
    assert_eq!(accepted.status(), 202);
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(send(&app, "GET", &location, &[ALICE]).await.status(), 200);
    assert_eq!(send(&app, "GET", &location, &[CLAIMS_ALICE]).await.status(), 401);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_at_its_end_is_no_upload_whatever_its_head_says() {
    let tasks = BackgroundTasks::new(TaskManager::new());
    for layer in [tasks.layer(TIMEOUT), tasks.layer(TIMEOUT).describe(|_| DescribeRequest::new())] {
        let app = Router::new()
            .route("/reports", post(async || tokio::time::sleep(Duration::from_secs(60)).await))
            .layer(layer);
        // A layer in front has read the body and passes an empty one on.
        let answer = send(&app, "POST", "/reports", &[CLAIMS_ALICE, ("content-length", "5")]).await;
        assert_eq!(answer.status(), 202);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_layer_is_a_problem_like_those_of_the_routes() {
    let refused = async |tasks: BackgroundTasks| {
        let layer = tasks.layer(TIMEOUT).respond(|respond| respond.refuse_with_503(TIMEOUT));
        let slow = post(async || tokio::time::sleep(Duration::from_secs(60)).await);
        let response = send(&Router::new().route("/", slow).layer(layer), "POST", "/", &[CLAIMS_ALICE]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<ProblemDetails>(&body).unwrap()
    };
    let full = TaskManager::builder().max_running(0).build();
    let expected = ProblemDetails::too_many_background_tasks("too many background tasks are running");
    assert_eq!(refused(BackgroundTasks::new(full)).await, expected);

    let stopping = TaskManager::new();
    stopping.shutdown(Duration::ZERO).await;
    let expected = ProblemDetails::shutting_down("the task manager is shutting down");
    assert_eq!(refused(BackgroundTasks::new(stopping)).await, expected);
}
