use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::manager::Refused;
use crate::offload::{Offloaded, RespondOffloaded};
use crate::task::{BackgroundTaskInfo, TaskRecord};

const PATH: &str = "/background-tasks/";

/// What cannot stand in a URI. Percent signs can: a prefix may be encoded already.
const NOT_IN_A_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Answers `202 Accepted` in place of a call that was handed over.
///
/// ```text
/// HTTP/1.1 202 Accepted
/// location: /background-tasks/5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21
/// content-type: application/json
/// cache-control: no-store
///
/// {"task_id":"5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21","session_id":"s1", ... ,"status":"running", ... }
/// ```
///
/// The body is a [`BackgroundTaskInfo`], the same as at the `Location`. The response can have any body that is
/// made from [`Bytes`], such as axum's; for others there is [`map_body`](Self::map_body).
///
/// A call that cannot become a task goes on in the foreground, unless
/// [`refuse_with_503`](Self::refuse_with_503) is set.
#[derive(Clone)]
#[must_use = "a responder does nothing until it is given to a layer"]
pub struct RespondAccepted<M = IntoBody> {
    /// All of the location but the id.
    location: Arc<str>,
    /// In whole seconds. `None`: the caller waits on.
    retry_after: Option<u64>,
    body: M,
}

impl RespondAccepted {
    /// The `type` of the problem in a [503](Self::refuse_with_503) at a limit on running tasks. All types of the crate
    /// are headings of the page of `api::problem`.
    pub const TOO_MANY_BACKGROUND_TASKS: &str =
        "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#too-many-background-tasks";
    /// The `type` of the problem in a [503](Self::refuse_with_503) while the service shuts down.
    pub const SHUTTING_DOWN: &str =
        "https://docs.rs/tower-offload/latest/tower_offload/api/problem/index.html#shutting-down";

    /// With `Location: /background-tasks/{id}`, and never a refusal.
    pub fn new() -> Self {
        Self { location: PATH.into(), retry_after: None, body: IntoBody }
    }
}

impl<M> RespondAccepted<M> {
    /// Where the two endpoints are: `Location` becomes `{prefix}/background-tasks/{id}`. Default: empty.
    ///
    /// A path such as `/api`, or a URL with a host for clients behind a gateway. Slashes at its end are dropped, and
    /// what cannot stand in a URI is percent-encoded.
    pub fn location_prefix(mut self, prefix: &str) -> Self {
        let prefix = utf8_percent_encode(prefix.trim_end_matches('/'), NOT_IN_A_URI);
        self.location = format!("{prefix}{PATH}").into();
        self
    }

    /// Makes the response bodies that have no `From<Bytes>`: boxed bodies, gRPC bodies, types of the host.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full, combinators::BoxBody};
    /// use tower_offload::http::RespondAccepted;
    ///
    /// let respond = RespondAccepted::new().map_body(|bytes: Bytes| BoxBody::new(Full::new(bytes)));
    /// # fn responder(_: impl tower_offload::offload::RespondOffloaded<(), http::Response<BoxBody<Bytes, std::convert::Infallible>>>) {}
    /// # responder(respond);
    /// ```
    pub fn map_body<B, F: Fn(Bytes) -> B>(self, body: F) -> RespondAccepted<F> {
        let Self { location, retry_after, .. } = self;
        RespondAccepted { location, retry_after, body }
    }

    /// Answers `503 Service Unavailable` to a late call that cannot become a task because of a limit on running
    /// tasks or a shutdown, instead of letting its caller wait on. The work is then dropped, at whatever point it is.
    ///
    /// The body is a problem (RFC 9457) of the type [`TOO_MANY_BACKGROUND_TASKS`](RespondAccepted::TOO_MANY_BACKGROUND_TASKS)
    /// or [`SHUTTING_DOWN`](RespondAccepted::SHUTTING_DOWN), and `Retry-After` is `retry_after` in whole seconds, rounded up and never
    /// less than one. The caller of a call that is refused for another reason, which a retry would not change, goes on
    /// waiting.
    pub const fn refuse_with_503(mut self, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().saturating_add((retry_after.subsec_nanos() > 0) as u64);
        self.retry_after = Some(if seconds == 0 { 1 } else { seconds });
        self
    }

    fn accepted<B>(&self, task: &TaskRecord) -> Response<B>
    where
        M: MakeBody<B>,
    {
        let mut response =
            self.json(StatusCode::ACCEPTED, "application/json", &BackgroundTaskInfo::from(task));
        // A UUID behind a prefix that was encoded: there is nothing in it that a header could not hold.
        if let Ok(location) = HeaderValue::try_from(format!("{}{}", self.location, task.id)) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }

    fn refused<B>(&self, refused: Refused) -> Option<Response<B>>
    where
        M: MakeBody<B>,
    {
        let retry_after = self.retry_after?;
        let (kind, title) = match refused {
            Refused::ShuttingDown => (RespondAccepted::SHUTTING_DOWN, "Shutting down"),
            Refused::TooManyRunning | Refused::TooManyRunningForUser => {
                (RespondAccepted::TOO_MANY_BACKGROUND_TASKS, "Too many background tasks")
            }
            Refused::MetaTooLarge | Refused::NoRuntime => return None,
        };
        let problem = Problem { kind, title, status: 503, detail: &refused.to_string() };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut response = self.json(status, "application/problem+json", &problem);
        response.headers_mut().insert(RETRY_AFTER, retry_after.into());
        Some(response)
    }

    fn json<B>(&self, status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response<B>
    where
        M: MakeBody<B>,
    {
        // A struct of texts: this cannot fail. If it did, the headers would still name the task.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let mut response = Response::new(self.body.make_body(body.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Default for RespondAccepted {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, B, M: MakeBody<B>> RespondOffloaded<K, Response<B>> for RespondAccepted<M> {
    fn respond(&self, offloaded: &Offloaded<'_, K>) -> Response<B> {
        self.accepted(offloaded.task)
    }

    fn refuse(&self, _: &K, refused: Refused) -> Option<Response<B>> {
        self.refused(refused)
    }
}

impl<M> fmt::Debug for RespondAccepted<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondAccepted")
            .field("location", &self.location)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// Makes a response body out of bytes. [`IntoBody`], and closures `Fn(Bytes) -> B`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a response body of type `{B}`",
    note = "the body type has no `From<Bytes>`: call `.map_body(...)` on the `RespondAccepted`"
)]
pub trait MakeBody<B> {
    /// The body.
    fn make_body(&self, bytes: Bytes) -> B;
}

/// Makes bodies by their `From<Bytes>`. The default of [`RespondAccepted`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IntoBody;

impl<B: From<Bytes>> MakeBody<B> for IntoBody {
    fn make_body(&self, bytes: Bytes) -> B {
        bytes.into()
    }
}

impl<B, F: Fn(Bytes) -> B> MakeBody<B> for F {
    fn make_body(&self, bytes: Bytes) -> B {
        self(bytes)
    }
}

/// A problem as RFC 9457 has it.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(prefix: &str) -> String {
        RespondAccepted::new().location_prefix(prefix).location.to_string()
    }

    #[test]
    fn a_prefix_becomes_part_of_a_uri_whatever_it_is() {
        assert_eq!(location(""), "/background-tasks/");
        assert_eq!(location("/"), "/background-tasks/");
        assert_eq!(location("/api/v1/"), "/api/v1/background-tasks/");
        assert_eq!(location("https://example.org/a%20b"), "https://example.org/a%20b/background-tasks/");
        assert_eq!(location("/a b\r\nx: é"), "/a%20b%0D%0Ax:%20%C3%A9/background-tasks/");
    }

    #[test]
    fn a_retry_is_in_whole_seconds_and_never_at_once() {
        let seconds = |duration| RespondAccepted::new().refuse_with_503(duration).retry_after;
        assert_eq!(seconds(Duration::ZERO), Some(1));
        assert_eq!(seconds(Duration::from_millis(1)), Some(1));
        assert_eq!(seconds(Duration::from_secs(30)), Some(30));
        assert_eq!(seconds(Duration::from_millis(30_001)), Some(31));
        assert_eq!(seconds(Duration::MAX), Some(u64::MAX));
    }
}
