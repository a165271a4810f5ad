//! The routes of the service, beside the two of the crate.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use futures_util::FutureExt;
use http::HeaderName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};
use tower_offload::api::{BackgroundTasks, ProblemDetails};
use tower_offload::bus::{BusError, keys};
use tower_offload::http::{IdentifyUser, Identity, RequestHead, Unidentified};
use tower_offload::task::Scope;
use tower_offload::tool::{ToolCall, ToolResponse, ToolStop};
use tower_offload::{OffloadLayer, TaskId, TaskManager};

use crate::bash::Commands;
use crate::error::CallError;
use crate::place::Place;
use crate::sessions::{DeliverToUser, Sessions};
use crate::tools::Toolbox;

/// The largest input of a tool, in bytes.
const MAX_INPUT: usize = 1 << 20;
/// The longest id in a path or header, in bytes.
const MAX_ID: usize = 256;
/// How many hints one drain answers.
const MAX_HINTS: usize = 1000;

type Result<T, E = Problem> = std::result::Result<T, E>;

#[derive(Clone)]
struct Service {
    manager: TaskManager,
    sessions: Sessions,
    timeout: Duration,
    tools: BoxCloneSyncService<ToolCall, ToolResponse, CallError>,
}

pub(crate) fn app(
    manager: &TaskManager,
    commands: Commands,
    timeout: Duration,
    users: Vec<String>,
) -> Router {
    let users = Arc::new(Users { header: Identity::new(), allowed: users.into_iter().collect() });
    let tasks = BackgroundTasks::new(manager.clone()).identify(SharedUsers(Arc::clone(&users)));
    let sessions = Sessions::new(Arc::clone(manager.bus()));
    let stop_wait = commands.stop_time() * 2;
    let tools = ServiceBuilder::new()
        .layer(
            OffloadLayer::for_tools(manager.clone(), timeout).deliver(DeliverToUser::new(sessions.clone())),
        )
        .service(Toolbox::new(ToolStop::new(manager.clone()).max_wait(stop_wait), commands));
    let service =
        Service { manager: manager.clone(), sessions, timeout, tools: BoxCloneSyncService::new(tools) };
    Router::new()
        .route("/sessions/{session_id}/tools/{tool_name}", post(call_tool))
        .route("/sessions/{session_id}/inbox/drain", post(drain_inbox))
        .route("/sessions/{session_id}", delete(cancel_session))
        .route("/health", get(health))
        .layer(Extension(users))
        .layer(DefaultBodyLimit::max(MAX_INPUT))
        .with_state(service)
        .merge(tasks.router())
        .merge(tasks.swagger_ui().router())
        .method_not_allowed_fallback(async || ProblemDetails::method_not_allowed())
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "no-such-route", "Not found", "There is nothing here.")
        })
}

async fn call_tool(
    State(service): State<Service>,
    User(user): User,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ToolResponse>> {
    let Path((session, tool)) = path?;
    let (session, tool) = (id("the session id", session)?, id("the tool name", tool)?);
    let agent = header(&headers, "X-Agent-ID")?.unwrap_or("agent");
    let call_id = header(&headers, "X-Tool-Call-ID")?.map(str::to_owned);
    let call_id = call_id.unwrap_or_else(|| TaskId::new().to_string());
    let body = body?;
    let input = std::str::from_utf8(&body).map_err(|_| bad("the body is not UTF-8"))?;
    let object: Value =
        serde_json::from_str(input).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    if !object.is_object() {
        return Err(bad("the body is not a JSON object"));
    }
    let call = ToolCall::new(tool, input)
        .with_id(&*call_id)
        .with_user(&*user)
        .with_session(&*session)
        .with_agent(agent);
    // The agent gets the panic of a tool like any other failure.
    let mut answering = pin!(AssertUnwindSafe(service.tools.oneshot(call)).catch_unwind());
    let answer = tokio::select! {
        biased;
        answer = &mut answering => answer,
        () = tokio::time::sleep(service.timeout / 2) => {
            service.sessions.claim_soon(&user, &session);
            answering.await
        }
    };
    match answer {
        Ok(answer) => Ok(Json(answer?)),
        Err(_) => Ok(Json(ToolResponse::error(call_id, "the tool panicked"))),
    }
}

/// The hints of the user in the session, oldest first, each as it was delivered and with an id. A hint stays in the
/// inbox until `?ack=ID` names it or a later one: those are removed first.
async fn drain_inbox(
    State(service): State<Service>,
    User(user): User,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Drain>, QueryRejection>,
) -> Result<Response> {
    let session = id("the session id", path?.0)?;
    let ack = query?.0.ack.map(|ack| ack.parse::<Place>().map_err(bad)).transpose()?.unwrap_or_default();
    let (bus, mut place, mut hints) = (service.manager.bus(), Place::default(), Vec::new());
    let inboxes = service.sessions.inboxes(&user, &session).await.map_err(|error| unavailable(&error))?;
    for (number, inbox) in inboxes.iter().enumerate() {
        let key = keys::inbox(inbox);
        if let Some(id) = ack.get(number) {
            bus.remove_through(&key, id).await.map_err(|error| unavailable(&error))?;
        }
        let entries = bus.peek(&key, MAX_HINTS - hints.len()).await.map_err(|error| unavailable(&error))?;
        for entry in entries {
            place.set(number, entry.id);
            // Other programs on the bus can write anything.
            let is_json = serde_json::from_str::<IgnoredAny>(&entry.payload).is_ok();
            let hint = if is_json { &*entry.payload } else { "null" };
            hints.push(format!(r#"{{"id": "{place}", "hint": {hint}}}"#));
        }
    }
    Ok(([(CONTENT_TYPE, "application/json")], format!("[{}]", hints.join(", "))).into_response())
}

#[derive(Deserialize)]
struct Drain {
    ack: Option<String>,
}

/// Stops what the user has running in the session.
async fn cancel_session(
    State(service): State<Service>,
    User(user): User,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>> {
    let session = id("the session id", path?.0)?;
    let scope = Scope::user(user).in_session(session);
    let cancelled = service.manager.cancel_session(&scope).await.map_err(|error| unavailable(&error))?;
    Ok(Json(json!({ "cancelled": cancelled })))
}

/// Whether the bus is there, and what waits for it. It is no reason to restart the service: nothing is lost.
async fn health(State(service): State<Service>) -> Response {
    let health = service.manager.health();
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let seconds = |since: Option<SystemTime>| Some(since?.elapsed().ok()?.as_secs_f64());
    let body = json!({
        "connected": health.bus.connected,
        "for_seconds": seconds(health.bus.since),
        "last_error": health.bus.last_error,
        "waiting_records": health.waiting_records,
        "waiting_results": health.waiting_results,
        "waiting_for_seconds": seconds(health.waiting_since),
    });
    (status, Json(body)).into_response()
}

/// Who may use the service.
struct Users {
    header: Identity,
    /// Empty: everybody.
    allowed: BTreeSet<String>,
}

impl Users {
    fn identify(&self, head: &RequestHead<'_>) -> Result<Arc<str>, Unidentified> {
        let user = self.header.identify(head)?;
        if self.allowed.is_empty() || self.allowed.contains(&*user) {
            Ok(user)
        } else {
            Err(Unidentified::new("This user may not use the service."))
        }
    }
}

struct SharedUsers(Arc<Users>);

impl IdentifyUser for SharedUsers {
    fn identify(&self, head: &RequestHead<'_>) -> Result<Arc<str>, Unidentified> {
        self.0.identify(head)
    }

    fn header_name(&self) -> Option<&HeaderName> {
        self.0.header.header_name()
    }
}

/// The user that a request is of.
struct User(Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Unidentified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Unidentified> {
        let users = parts.extensions.get::<Arc<Users>>();
        let user = users
            .ok_or_else(|| Unidentified::new("Nobody may use the service."))?
            .identify(&RequestHead::from(&*parts))?;
        if user.is_empty() { Err(Unidentified::new("The user has no name.")) } else { Ok(Self(user)) }
    }
}

/// What is answered in place of a result.
struct Problem(ProblemDetails);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            ([(RETRY_AFTER, "1")], self.0).into_response()
        } else {
            self.0.into_response()
        }
    }
}

fn problem(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Problem {
    let kind = format!("urn:agent-service:problem:{kind}");
    Problem(ProblemDetails::new(status, kind, title, detail.into()))
}

fn unavailable(error: &BusError) -> Problem {
    Problem(ProblemDetails::unavailable(error.to_string()))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem(ProblemDetails::bad_request(detail.into()))
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::UnknownTool => {
                problem(StatusCode::NOT_FOUND, "unknown-tool", "Unknown tool", error.to_string())
            }
            CallError::BadInput(_) => bad(error.to_string()),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        bad(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        bad(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("The input of a tool is at most {MAX_INPUT} bytes.");
                problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Input too large", detail)
            }
            _ => bad(rejection.body_text()),
        }
    }
}

fn id(what: &str, id: String) -> Result<String> {
    if id.is_empty() || id.len() > MAX_ID {
        return Err(bad(format!("{what} has {} bytes; it may have 1 to {MAX_ID}", id.len())));
    }
    Ok(id)
}

/// A header that may be left out.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("{name} is given more than once")));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| bad(format!("{name} is not UTF-8")))?.trim();
    if text.len() > MAX_ID {
        return Err(bad(format!("{name} has {} bytes; it may have at most {MAX_ID}", text.len())));
    }
    Ok((!text.is_empty()).then_some(text))
}
