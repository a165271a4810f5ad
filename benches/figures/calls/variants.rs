//! What is around the service: nothing, what people use today, and our layer with its hooks.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::timeout::Timeout;
use tower::{Layer, Service};
use tower_http::timeout::TimeoutLayer;
use tower_offload::offload::{OffloadCall, OnDisconnect};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, ToolCall, ToolResponse};

use super::inner::{Inner, Small, Work};
use super::spawned::Spawned;

/// Long enough for nothing to be late.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// What is done with each variant: they all are of types of their own.
pub(crate) trait Visit {
    fn visit<S, R>(self, service: S, request: impl Fn(u64) -> R + Clone + Send + Sync + 'static)
    where
        S: Service<R, Future: Send + 'static> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        R: Send + 'static;
}

/// What each is compared to: the same requests without anything around the service.
pub(crate) const BARE: &str = "bare";

/// The name, and which bare service it is compared to.
pub(crate) const VARIANTS: &[(&str, &str)] = &[
    ("bare", BARE),
    ("timeout", BARE),
    ("spawn", BARE),
    ("offload", BARE),
    ("small-bare", "small-bare"),
    ("small-timeout", "small-bare"),
    ("small-spawn", "small-bare"),
    ("small-offload", "small-bare"),
    ("large-bare", "large-bare"),
    ("large-timeout", "large-bare"),
    ("large-spawn", "large-bare"),
    ("large-offload", "large-bare"),
    ("offload-none", BARE),
    ("offload-meta", BARE),
    ("offload-disconnect", BARE),
    ("tool-bare", "tool-bare"),
    ("tool-offload", "tool-bare"),
    ("http-bare", "http-bare"),
    ("http-timeout", "http-bare"),
    ("http-offload", "http-bare"),
];

/// The least that can be kept of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(u64);

impl OffloadCall for Number {
    fn meta(&self) -> TaskMeta {
        TaskMeta::new("alice", self.0.to_string())
    }
}

fn respond(_: &TaskRecord) -> u64 {
    0
}

/// The future of 2 KiB: 2,048 bytes are held, and the rest is as in the others.
type Large = Inner<u64, u64, 256>;

/// Shows `visit` one variant; says whether there is such a one.
pub(crate) fn with(name: &str, work: Work, visit: impl Visit) -> bool {
    let numbers: Inner<u64, u64> = Inner { work, answer: |number: u64| number };
    let layer = OffloadLayer::new(TaskManager::new(), TIMEOUT).respond(respond);
    match name {
        "bare" | "timeout" | "spawn" | "offload" => with_sized(name, numbers, visit),
        "small-bare" | "small-timeout" | "small-spawn" | "small-offload" => {
            with_sized(&name["small-".len()..], Small { work }, visit);
        }
        "large-bare" | "large-timeout" | "large-spawn" | "large-offload" => {
            let service: Large = Inner { work, answer: |number| number };
            with_sized(&name["large-".len()..], service, visit);
        }
        "offload-none" => {
            let layer = layer.describe(|_: &u64| None::<Number>);
            visit.visit(layer.layer(numbers), |number| number);
        }
        "offload-meta" => {
            let layer = layer.describe(|_: &u64| Some(TaskMeta::new("alice", "report")));
            visit.visit(layer.layer(numbers), |number| number);
        }
        "offload-disconnect" => {
            let layer = layer.describe(|number: &u64| Some(Number(*number)));
            let layer = layer.on_disconnect(OnDisconnect::HandOver);
            visit.visit(layer.layer(numbers), |number| number);
        }
        "tool-bare" => visit.visit(tools(work), tool_call()),
        "tool-offload" => {
            let layer = OffloadLayer::for_tools(TaskManager::new(), TIMEOUT);
            visit.visit(layer.layer(tools(work)), tool_call());
        }
        "http-bare" => visit.visit(handlers(work), request()),
        "http-timeout" => {
            let layer = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT);
            visit.visit(layer.layer(handlers(work)), request());
        }
        "http-offload" => {
            let layer = tower_offload::http::layer(TaskManager::new(), TIMEOUT);
            visit.visit(layer.layer(handlers(work)), request());
        }
        _ => return false,
    }
    true
}

/// A service of numbers, alone or in one of the three ways to bound its time.
fn with_sized<S>(name: &str, service: S, visit: impl Visit)
where
    S: Service<u64, Response = u64, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    match name {
        "timeout" => visit.visit(Timeout::new(service, TIMEOUT), |number| number),
        "spawn" => visit.visit(Spawned::new(service, TIMEOUT), |number| number),
        "offload" => {
            let layer = OffloadLayer::new(TaskManager::new(), TIMEOUT).respond(respond);
            let layer = layer.describe(|number: &u64| Some(Number(*number)));
            visit.visit(layer.layer(service), |number| number);
        }
        _ => visit.visit(service, |number| number),
    }
}

fn tools(work: Work) -> Inner<ToolCall, ToolResponse> {
    Inner { work, answer: |call| ToolResponse::text(call.id(), "done") }
}

/// The same call each time: what a model wrote is there before the layer gets it.
pub(crate) fn tool_call() -> impl Fn(u64) -> ToolCall + Clone + Send + Sync + 'static {
    let call = ToolCall::new("Bash", r#"{"command": "cargo test --workspace"}"#)
        .with_id("call_0123456789")
        .with_user("alice")
        .with_session("session-1")
        .with_agent("agent-1");
    move |_| call.clone()
}

fn handlers(work: Work) -> Inner<Request<()>, Response<Full<Bytes>>> {
    Inner { work, answer: |_| Response::new(Full::new(Bytes::from_static(b"done"))) }
}

/// With a path, and the three headers of which the layer keeps something. A clone, because parsing one costs more than
/// all the rest.
fn request() -> impl Fn(u64) -> Request<()> + Clone + Send + Sync + 'static {
    let request = Request::post("/reports/2026/november")
        .header("x-user-id", "alice")
        .header("x-session-id", "session-1")
        .header("x-request-id", "0123456789abcdef")
        .body(())
        .expect("it is a request");
    move |_| request.clone()
}

/// A call that was answered, whatever the answer.
pub(crate) async fn answered<T, E>(call: impl Future<Output = Result<T, E>>) {
    let answer = std::hint::black_box(call).await;
    assert!(answer.is_ok(), "a call failed");
    std::hint::black_box(answer.ok());
}
