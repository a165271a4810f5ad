//! What the OpenAPI document says besides the operations themselves.

use serde_json::Value;
use tower_offload::api::ProblemDetails;
use utoipa::{IntoResponses, OpenApi, ToSchema};

pub(crate) const TAG: &str = "agent-service";

/// The document that the routes are added to. The security scheme `userId` comes with the routes of the crate.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Agent service",
        description = "An agent's tools behind HTTP. A tool call that takes too long moves to the background; its \
                       owner watches it, and the agent gets the result in its inbox. Press *Authorize* and type the \
                       name of a user; then call `Bash` below. Errors are RFC 9457 problem details. A request that \
                       names a foreign host or origin is answered with 421 or 403.",
        version = env!("CARGO_PKG_VERSION"),
    ),
    servers((url = "/")),
    tags((name = TAG, description = "Tool calls, and what became of them.")),
)]
pub(crate) struct Document;

/// One hint of an inbox.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the schema of what the handler writes as text, so that hints stay as they came"
)]
pub(crate) struct InboxEntry {
    /// What `ack` takes.
    #[schema(examples("1795698000000-0"))]
    id: String,
    /// The hint as it was delivered: AgentScope's `HintBlock`.
    #[schema(value_type = Object)]
    hint: Value,
}

/// How many tasks were asked to stop.
#[derive(ToSchema, serde::Serialize)]
pub(crate) struct Cancelled {
    pub(crate) cancelled: usize,
}

/// The errors of the routes that are about a session.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "says what `Problem` is in the document")]
pub(crate) enum SessionProblems {
    /// The request cannot be understood.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemDetails),
    /// The request names no user that may use the service.
    #[response(status = 401, content_type = "application/problem+json")]
    Unidentified(ProblemDetails),
    /// The message bus cannot be reached just now.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemDetails),
}

/// The errors of a tool call that was not made.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "says what `Problem` is in the document")]
pub(crate) enum CallProblems {
    /// The request cannot be understood, or the input is not what the tool takes.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemDetails),
    /// The request names no user that may use the service.
    #[response(status = 401, content_type = "application/problem+json")]
    Unidentified(ProblemDetails),
    /// There is no such tool.
    #[response(status = 404, content_type = "application/problem+json")]
    UnknownTool(ProblemDetails),
    /// The input is larger than 1 MiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemDetails),
}
