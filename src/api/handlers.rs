use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::identity::UserId;
use super::openapi::{AnyProblem, TAG};
use super::problem::{self, ProblemDetails};
use super::render;
use super::state::Api;
use crate::bus::BusError;
use crate::log_limit::LogLimit;
use crate::task::{BackgroundTaskInfo, ListBackgroundTasksResponse, Scope, TaskId, logged};

/// What a client should wait before it asks for a shared view again, in seconds: long enough for one reconnect.
const RETRY_AFTER: u16 = 1;

const SESSION_TWICE: &str = "The query may name session_id only once.";
const PATH_NOT_UTF8: &str = "The path must be UTF-8.";

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only the tasks of this session. Empty: only those that belong to no session.
    // No example: Swagger UI would fill it in, and who just presses Execute would be shown an empty list.
    #[param(nullable = false)]
    session_id: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for ListParams {
    type Rejection = ProblemDetails;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemDetails> {
        // Most requests have none, and no need of a parser.
        if parts.uri.query().is_none() {
            return Ok(Self { session_id: None });
        }
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(params),
            Err(_) => Err(ProblemDetails::bad_request(SESSION_TWICE)),
        }
    }
}

/// Named, because a prefix that the host nests us under may have parameters too.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// The id that the caller was given when the call moved to the background.
    #[param(example = "5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21")]
    task_id: String,
}

#[utoipa::path(
    get,
    path = "/background-tasks",
    operation_id = "listBackgroundTasks",
    tag = TAG,
    summary = "List background tasks",
    description = "The caller's background tasks that are running or still kept, in the order in which they moved to \
                   the background. The list is always whole: when a part of it cannot be read, the answer is 503.",
    params(ListParams),
    security(("userId" = [])),
    responses(
        (
            status = 200,
            description = "The caller's tasks, which may be none.",
            headers(("Cache-Control" = String, description = "Always `no-store`.")),
            body = ListBackgroundTasksResponse,
            example = json!({
                "tasks": [
                    {
                        "agent_id": "agent-1",
                        "call_id": "call_1",
                        "cancel_requested_at": null,
                        "completed_at": "2026-11-22T13:32:02.801554Z",
                        "error_summary": "exit status 2",
                        "failure_reason": "error",
                        "session_id": "session-1",
                        "started_at": "2026-11-22T13:31:32.794120Z",
                        "status": "failed",
                        "summary": "Bash(command=make test)",
                        "task_id": "5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21",
                        "tool_name": "Bash",
                    },
                    {
                        "agent_id": "agent-1",
                        "call_id": "call_2",
                        "cancel_requested_at": null,
                        "completed_at": null,
                        "error_summary": null,
                        "failure_reason": null,
                        "session_id": "session-1",
                        "started_at": "2026-11-22T13:31:41.004815Z",
                        "status": "running",
                        "summary": "Bash(command=cargo build)",
                        "task_id": "b1f0c9de-0f5e-4c35-8a0c-5c8a4a0f4a7e",
                        "tool_name": "Bash",
                    },
                ],
                "total": 2,
            }),
        ),
        (
            status = 400,
            description = "The request cannot be understood: `session_id` is given twice, or the header with the user's id is repeated, \
                           too long or not UTF-8.",
            headers(("Cache-Control" = String, description = "Always `no-store`.")),
            body = ProblemDetails,
            content_type = "application/problem+json",
            example = json!(ProblemDetails::bad_request(SESSION_TWICE)),
        ),
        AnyProblem,
    ),
)]
pub(super) async fn list_background_tasks(user: UserId, api: State<Api>, params: ListParams) -> Response {
    let scope = match params.session_id {
        Some(session_id) => Scope::user(user.0).in_session(session_id),
        None => Scope::user(user.0),
    };
    // Before the list: what changes meanwhile is in the list, or makes another version.
    let version = api.manager.version(&scope);
    if let Some(body) = version.and_then(|version| api.cache.get(&scope, version)) {
        return ok(body);
    }
    let mut body = match api.manager.list(&scope).await {
        Ok(tasks) => render::list(&tasks),
        Err(error) => return unavailable(&error),
    };
    let Some(version) = version else { return ok(body) };
    // What is kept should take no more room than it is counted for.
    body.shrink_to_fit();
    let body = Bytes::from(body);
    api.cache.put(scope, version, body.clone());
    ok(body)
}

#[utoipa::path(
    get,
    path = "/background-tasks/{task_id}",
    operation_id = "getBackgroundTask",
    tag = TAG,
    summary = "Get one background task",
    description = "One of the caller's background tasks, while it runs and for as long as it is kept after that.",
    params(TaskPath),
    security(("userId" = [])),
    responses(
        (
            status = 200,
            description = "The task.",
            headers(("Cache-Control" = String, description = "Always `no-store`.")),
            body = BackgroundTaskInfo,
            example = json!({
                "agent_id": "agent-1",
                "call_id": "call_1",
                "cancel_requested_at": null,
                "completed_at": "2026-11-22T13:32:02.801554Z",
                "error_summary": null,
                "failure_reason": null,
                "session_id": "session-1",
                "started_at": "2026-11-22T13:31:32.794120Z",
                "status": "completed",
                "summary": "Bash(command=make test)",
                "task_id": "5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21",
                "tool_name": "Bash",
            }),
        ),
        (
            status = 400,
            description = "The request cannot be understood: the path is not UTF-8, or the header with the user's id is repeated, \
                           too long or not UTF-8.",
            headers(("Cache-Control" = String, description = "Always `no-store`.")),
            body = ProblemDetails,
            content_type = "application/problem+json",
            example = json!(ProblemDetails::bad_request(PATH_NOT_UTF8)),
        ),
        AnyProblem,
        (
            status = 404,
            description = "The caller has no such task: there is none, it is no longer kept, or it is somebody \
                           else's. The answer is the same.",
            headers(("Cache-Control" = String, description = "Always `no-store`.")),
            body = ProblemDetails,
            content_type = "application/problem+json",
            example = json!(ProblemDetails::task_not_found()),
        ),
    ),
)]
pub(super) async fn get_background_task(
    user: UserId,
    api: State<Api>,
    path: Result<Path<TaskPath>, PathRejection>,
) -> Response {
    let Ok(Path(TaskPath { task_id })) = path else {
        return ProblemDetails::bad_request(PATH_NOT_UTF8).into_response();
    };
    // An id in any other form is the id of no task: it gets the answer of a missing one.
    let found = match TaskId::canonical(&task_id) {
        Some(id) => api.manager.get(&Scope::user(user.0), id).await,
        None => Ok(None),
    };
    match found {
        Ok(Some(task)) => ok(render::task(&task)),
        Ok(None) => ProblemDetails::task_not_found().into_response(),
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn method_not_allowed() -> ProblemDetails {
    ProblemDetails::method_not_allowed()
}

fn ok(body: impl Into<Body>) -> Response {
    problem::answer(StatusCode::OK, HeaderValue::from_static("application/json"), body)
}

fn unavailable(error: &BusError) -> Response {
    static LINES: LogLimit = LogLimit::new();
    LINES.write(|left_out| {
        let cause = std::error::Error::source(error).map(logged);
        tracing::warn!(%error, cause, left_out, "background tasks could not be read");
    });
    // The cause may name hosts, so only the log has it.
    let problem = ProblemDetails::unavailable("The tasks cannot be read just now.");
    ([(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))], problem).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_view_is_503_and_says_when_to_come_back() {
        let response = unavailable(&BusError::new("read", "no route to 10.0.0.7"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
