//! Errors of the service, as the routes of the crate answer them: RFC 9457.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use tower_offload::api::ProblemDetails;
use tower_offload::bus::BusError;

use crate::error::CallError;

/// The largest input of a tool, in bytes.
pub(crate) const MAX_INPUT: usize = 1 << 20;

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// What is answered in place of a result.
pub(crate) struct Problem(ProblemDetails);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            ([(RETRY_AFTER, "1")], self.0).into_response()
        } else {
            self.0.into_response()
        }
    }
}

pub(crate) fn problem(
    status: StatusCode,
    kind: &str,
    title: &'static str,
    detail: impl Into<String>,
) -> Problem {
    let kind = format!("urn:agent-service:problem:{kind}");
    Problem(ProblemDetails::new(status, kind, title, detail.into()))
}

pub(crate) fn unavailable(error: &BusError) -> Problem {
    Problem(ProblemDetails::unavailable(error.to_string()))
}

pub(crate) fn bad(detail: impl Into<String>) -> Problem {
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
