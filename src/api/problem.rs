//! Errors as RFC 9457 problem details.
//!
//! Each answer of the routes that is an error is `application/problem+json`, and so is each refusal of the layer. Its
//! `type` is the address of one of the headings below; the addresses do not change, so that clients can compare them.
//!
//! # Bad request
//!
//! Status 400. The request cannot be understood: the query names `session_id` twice, the path is not UTF-8, or
//! the header with the user's id is repeated, too long or not UTF-8. Sending it again will not help.
//!
//! # Unidentified
//!
//! Status 401. The request does not say whose tasks it asks for. `WWW-Authenticate` says how to.
//!
//! # Task not found
//!
//! Status 404. The caller has no such task: there never was one, its record was dropped by the retention, or it
//! belongs to another user. The answer is the same in all cases.
//!
//! # Method not allowed
//!
//! Status 405. The endpoints are read-only. `Allow` lists the methods.
//!
//! # Unavailable
//!
//! Status 503. The view that several processes share cannot be read just now, and a part of the tasks is never
//! passed off as all of them. `Retry-After` says when to ask again, in seconds.
//!
//! # Too many background tasks
//!
//! Status 503. The call took too long and could not become a task, because of a limit on running tasks, of this user or
//! of all. Its work was dropped. `Retry-After` says when to try again, in seconds. The layer answers so only if it was told to
//! [refuse with 503](crate::http::RespondAccepted::refuse_with_503).
//!
//! # Shutting down
//!
//! Status 503. The call took too long and could not become a task, because the service shuts down. All else is as with
//! [too many background tasks](self#too-many-background-tasks).

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::http::RespondAccepted;

/// The `type` of [a bad request](self#bad-request).
pub const BAD_REQUEST: &str =
    "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#bad-request";
/// The `type` of a request [without a user](self#unidentified).
pub const UNIDENTIFIED: &str =
    "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#unidentified";
/// The `type` of a task that [is not there](self#task-not-found), or not the caller's.
pub const TASK_NOT_FOUND: &str =
    "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#task-not-found";
/// The `type` of [a method other than `GET` and `HEAD`](self#method-not-allowed).
pub const METHOD_NOT_ALLOWED: &str =
    "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#method-not-allowed";
/// The `type` of a view that [cannot be read now](self#unavailable).
pub const UNAVAILABLE: &str =
    "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#unavailable";

/// The `type` of a call that is late while [too many tasks](self#too-many-background-tasks) run.
pub const TOO_MANY_BACKGROUND_TASKS: &str = RespondAccepted::TOO_MANY_BACKGROUND_TASKS;
/// The `type` of a call that is late while the service [shuts down](self#shutting-down).
pub const SHUTTING_DOWN: &str = RespondAccepted::SHUTTING_DOWN;

pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error, as RFC 9457 writes it.
///
/// As a response it is `application/problem+json` with its status, and must not be stored by a cache. Hosts may use
/// it for problems of their own:
///
/// ```
/// use axum::response::IntoResponse;
/// use http::StatusCode;
/// use tower_offload::api::ProblemDetails;
///
/// let problem = ProblemDetails::new(
///     StatusCode::PAYMENT_REQUIRED,
///     "https://example.com/problems/out-of-credit",
///     "Out of credit",
///     "The call costs 30 and the balance is 12.",
/// );
/// let response = problem.into_response();
/// assert_eq!(response.status(), 402);
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(description = "An error, as RFC 9457 writes it.")]
#[non_exhaustive]
pub struct ProblemDetails {
    /// The kind of problem: a URI that stays the same, to compare and to look up.
    #[serde(rename = "type")]
    #[schema(value_type = String, format = "uri", examples("https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#task-not-found"))]
    pub type_uri: Cow<'static, str>,
    /// What that kind is called, for people.
    #[schema(value_type = String, examples("Task not found"))]
    pub title: Cow<'static, str>,
    /// The HTTP status of the answer.
    #[schema(value_type = i32, minimum = 400, maximum = 599, examples(404))]
    pub status: u16,
    /// What went wrong this time, for people.
    #[schema(value_type = String, examples("You have no background task of this id."))]
    pub detail: Cow<'static, str>,
    /// A URI of this one occurrence, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = "uri-reference")]
    pub instance: Option<String>,
}

impl ProblemDetails {
    /// A problem of one's own. `status` should be an error, `type_uri` a URI that never changes its meaning.
    pub fn new(
        status: StatusCode,
        type_uri: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            type_uri: type_uri.into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: None,
        }
    }

    /// The same, with a URI reference that names this occurrence.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// [Bad request](self#bad-request), 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, BAD_REQUEST, "Bad request", detail)
    }

    /// [Unidentified](self#unidentified), 401. It lacks the `WWW-Authenticate` that the status asks for;
    /// [`Unidentified`](crate::http::Unidentified) has it.
    pub fn unidentified(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, UNIDENTIFIED, "Unidentified", detail)
    }

    /// [Task not found](self#task-not-found), 404. It does not repeat the id: what is sent in cannot come back out.
    #[must_use]
    pub fn task_not_found() -> Self {
        let detail = "You have no background task of this id.";
        Self::new(StatusCode::NOT_FOUND, TASK_NOT_FOUND, "Task not found", detail)
    }

    /// [Method not allowed](self#method-not-allowed), 405. The router adds `Allow`.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = "Background tasks can only be read.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// [Unavailable](self#unavailable), 503. A `Retry-After` is for the caller to add.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "Unavailable", detail)
    }

    /// [Too many background tasks](self#too-many-background-tasks), 503. A `Retry-After` is for the caller to add.
    pub fn too_many_background_tasks(detail: impl Into<Cow<'static, str>>) -> Self {
        let title = "Too many background tasks";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_BACKGROUND_TASKS, title, detail)
    }

    /// [Shutting down](self#shutting-down), 503. A `Retry-After` is for the caller to add.
    pub fn shutting_down(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SHUTTING_DOWN, "Shutting down", detail)
    }
}

impl IntoResponse for ProblemDetails {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, HeaderValue::from_static(CONTENT_TYPE), &self)
    }
}

pub(super) fn json(status: StatusCode, content_type: HeaderValue, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => answer(status, content_type, body),
        Err(error) => {
            tracing::error!(%error, "answer of the task view could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that no cache may store: it is one user's, and old in a moment.
pub(super) fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_the_address_of_a_heading_of_this_module() {
        let problems = [
            ProblemDetails::bad_request(""),
            ProblemDetails::unidentified(""),
            ProblemDetails::task_not_found(),
            ProblemDetails::method_not_allowed(),
            ProblemDetails::unavailable(""),
            ProblemDetails::too_many_background_tasks(""),
            ProblemDetails::shutting_down(""),
        ];
        for problem in problems {
            let (page, anchor) = problem.type_uri.split_once('#').unwrap();
            assert_eq!(page, "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html");
            let heading = format!("\n//! # {}\n//!\n//! Status {}.", problem.title, problem.status);
            assert!(include_str!("problem.rs").contains(&heading), "{heading}");
            assert_eq!(anchor, problem.title.to_lowercase().replace(' ', "-"));
        }
    }

    #[test]
    fn a_problem_is_written_in_full_and_an_impossible_status_is_500() {
        let mut problem = ProblemDetails::task_not_found().with_instance("/i");
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"type\":\"{TASK_NOT_FOUND}\",\"title\":\"Task not found\",\"status\":404,\
                 \"detail\":\"You have no background task of this id.\",\"instance\":\"/i\"}}"
            )
        );
        assert_eq!(serde_json::from_str::<ProblemDetails>(&text).unwrap(), problem);
        problem.status = 7;
        assert_eq!(problem.into_response().status(), 500);
    }
}
