//! The routes of the service, beside the two of the crate.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::{Extension, Router};
use futures_util::FutureExt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};
use tower_offload::api::{BackgroundTasks, ProblemDetails, SwaggerUi};
use tower_offload::bus::keys;
use tower_offload::task::Scope;
use tower_offload::tool::{ToolCall, ToolResponse, ToolStop};
use tower_offload::{OffloadLayer, TaskId, TaskManager};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bash::Commands;
use crate::document::{CallProblems, Cancelled, Document, InboxEntry, SessionProblems, TAG};
use crate::error::CallError;
use crate::place::Place;
use crate::problem::{MAX_INPUT, Result, bad, problem, unavailable};
use crate::sessions::{DeliverToUser, Sessions};
use crate::tools::Toolbox;
use crate::users::{User, Users};

/// The longest id in a path or header, in bytes.
const MAX_ID: usize = 256;
/// How many hints one drain answers.
const MAX_HINTS: usize = 1000;

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
    let users = Users::new(users);
    let tasks = BackgroundTasks::builder(manager.clone()).identify(users.clone()).build();
    let sessions = Sessions::new(Arc::clone(manager.bus()));
    let stop_wait = commands.stop_time().saturating_mul(2);
    let tools = ServiceBuilder::new()
        .layer(
            OffloadLayer::for_tools(manager.clone(), timeout).deliver(DeliverToUser::new(sessions.clone())),
        )
        .service(Toolbox::new(ToolStop::new(manager.clone()).max_wait(stop_wait), commands));
    let service =
        Service { manager: manager.clone(), sessions, timeout, tools: BoxCloneSyncService::new(tools) };
    let (routes, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(call_tool))
        .routes(routes!(drain_inbox))
        .routes(routes!(cancel_session))
        .routes(routes!(health))
        .layer(Extension(users))
        .layer(DefaultBodyLimit::max(MAX_INPUT))
        .with_state(service)
        .merge(tasks.openapi_router())
        .split_for_parts();
    routes
        .merge(SwaggerUi::new(document).router())
        .method_not_allowed_fallback(async || ProblemDetails::method_not_allowed())
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "no-such-route", "Not found", "There is nothing here.")
        })
}

/// Calls a tool
///
/// Answers with the result, or, when the call takes too long, with a text that names the task: the call has moved to
/// the background. `GET /background-tasks` lists it, and its result goes to the inbox of the session.
///
/// | tool | input |
/// | --- | --- |
/// | `Bash` | `{"command": "sleep 30; echo done"}` |
/// | `Sleep` | `{"seconds": 30}` |
/// | `Fail` | `{"seconds": 1, "message": "disk full"}` |
/// | `Panic` | `{"seconds": 1}` |
/// | `ToolStop` | `{"task_id": "the id of a task of this session"}` |
#[utoipa::path(
    post,
    path = "/sessions/{session_id}/tools/{tool_name}",
    operation_id = "callTool",
    tag = TAG,
    params(
        ("session_id" = String, Path, description = "Any name of 1 to 256 bytes.", example = "s1"),
        ("tool_name" = String, Path, description = "The tool.", example = "Bash"),
        ("X-Agent-ID" = Option<String>, Header, nullable = false, description = "Who calls. Default: `agent`."),
        (
            "X-Tool-Call-ID" = Option<String>,
            Header,
            nullable = false,
            description = "The caller's own id of the call. Default: a new one.",
        ),
    ),
    request_body(
        content = Object,
        description = "The input of the tool, at most 1 MiB.",
        example = json!({"command": "sleep 30; echo done"}),
    ),
    security(("userId" = [])),
    responses(
        (
            status = 200,
            description = "The result of the tool, or the placeholder of a call that moved to the background.",
            body = Object,
            example = json!({
                "id": "call_1",
                "content": [{"type": "text", "text": "done\n"}],
                "state": "success",
                "metadata": {},
            }),
        ),
        CallProblems,
    ),
)]
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

/// Reads an inbox
///
/// The hints of the user in the session, oldest first and at most 1,000, each as it was delivered and with an id. A
/// hint stays in the inbox until `ack` names it or a later one: those are removed first.
#[utoipa::path(
    post,
    path = "/sessions/{session_id}/inbox/drain",
    operation_id = "drainInbox",
    tag = TAG,
    params(
        ("session_id" = String, Path, description = "The session that the tool was called in.", example = "s1"),
        (
            "ack" = Option<String>,
            Query,
            nullable = false,
            description = "The id of the last hint that is not wanted again.",
        ),
    ),
    security(("userId" = [])),
    responses(
        (status = 200, description = "The hints, which may be none.", body = Vec<InboxEntry>),
        SessionProblems,
    ),
)]
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

/// Stops the tasks of a session
///
/// Asks the user's running tasks in the session to stop. A command gets SIGTERM, and SIGKILL after a grace time.
#[utoipa::path(
    delete,
    path = "/sessions/{session_id}",
    operation_id = "cancelSession",
    tag = TAG,
    params(("session_id" = String, Path, description = "The session.", example = "s1")),
    security(("userId" = [])),
    responses((status = 200, description = "How many tasks were asked.", body = Cancelled), SessionProblems),
)]
async fn cancel_session(
    State(service): State<Service>,
    User(user): User,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Cancelled>> {
    let session = id("the session id", path?.0)?;
    let scope = Scope::user(user).in_session(session);
    let cancelled = service.manager.stop_all(&scope).await.map_err(|error| unavailable(&error))?;
    Ok(Json(Cancelled { cancelled }))
}

/// How the service is
///
/// Whether the message bus can be reached, what waits for it, and what it dropped or refused because it was full. A status of 503 is no reason to restart the service:
/// nothing is lost.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = TAG,
    responses(
        (status = 200, description = "All is well.", body = Object),
        (status = 503, description = "Something has waited for the bus for too long.", body = Object),
    ),
)]
async fn health(State(service): State<Service>) -> Response {
    let health = service.manager.health();
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let seconds = |since: Option<SystemTime>| Some(since?.elapsed().ok()?.as_secs_f64());
    let body = json!({
        "connected": health.bus.connected,
        "for_seconds": seconds(health.bus.since),
        "last_error": health.bus.last_error,
        "dropped_since_start": health.bus.dropped,
        "refused_since_start": health.bus.refused,
        "waiting_records": health.waiting_records,
        "waiting_results": health.waiting_results,
        "waiting_for_seconds": seconds(health.waiting_since),
    });
    (status, Json(body)).into_response()
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
