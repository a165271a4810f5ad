//! What is around the routes.

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{Request, StatusCode};
use tower::layer::layer_fn;
use tower::layer::util::Identity;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, ServiceBuilder};
use tower_offload::http::RespondAccepted;
use tower_offload::offload::OffloadCall;
use tower_offload::{BackgroundTasks, OffloadLayer, TaskManager, TaskMeta};

use crate::calls::{Inner, Spawned, TIMEOUT, Work};

/// The first is what the others are compared to.
pub(super) const VARIANTS: &[(&str, &str)] = &[
    ("no-op", "a layer that does nothing"),
    ("timeout", "HandleError + tower::timeout"),
    ("http-timeout", "tower-http TimeoutLayer"),
    ("spawn", "HandleError + a task for each call"),
    ("offload", "OffloadLayer, nothing kept"),
    ("offload-http", "http::layer, path and three headers kept"),
    ("offload-axum", "BackgroundTasks::layer, path and three headers kept"),
];

/// Nothing is kept of the call: it would be told as one of nobody.
#[derive(Clone, Copy, Debug)]
struct Nothing;

impl OffloadCall for Nothing {
    fn meta(&self) -> TaskMeta {
        TaskMeta::new("alice", "report")
    }
}

pub(super) fn router(variant: &str, work: Work) -> Option<Router> {
    let plain: Router = Router::new().route("/reports/{year}", post(move || handle(work)));
    let errors = || HandleErrorLayer::new(async |_: BoxError| StatusCode::REQUEST_TIMEOUT);
    let layered = match variant {
        "no-op" => plain.layer(Identity::new()),
        "timeout" => plain.layer(ServiceBuilder::new().layer(errors()).layer(TimeoutLayer::new(TIMEOUT))),
        "http-timeout" => plain
            .layer(tower_http::timeout::TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT)),
        "spawn" => {
            let spawned = layer_fn(|inner| Spawned::new(inner, TIMEOUT));
            plain.layer(ServiceBuilder::new().layer(errors()).layer(spawned))
        }
        "offload" => plain.layer(
            OffloadLayer::new(TaskManager::new(), TIMEOUT)
                .describe(|_: &Request<axum::body::Body>| Some(Nothing))
                .respond(RespondAccepted::new())
                .classify(|_: Result<&Response, &std::convert::Infallible>| {
                    tower_offload::task::Outcome::Completed
                }),
        ),
        "offload-http" => plain.layer(tower_offload::http::layer(TaskManager::new(), TIMEOUT)),
        "offload-axum" => plain.layer(BackgroundTasks::new(TaskManager::new()).layer(TIMEOUT)),
        _ => return None,
    };
    // As `axum::serve` does it: otherwise the layers are put around the handler anew for each request.
    Some(layered.with_state(()))
}

async fn handle(work: Work) -> Response {
    use tower::ServiceExt;
    let service: Inner<_, _> = Inner { work, answer: |()| StatusCode::OK.into_response() };
    let Ok(response) = service.oneshot(()).await;
    response
}
