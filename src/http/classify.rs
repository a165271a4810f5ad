use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::percent_decode;

use super::seen::is_grpc;
use crate::offload::ClassifyResult;
use crate::task::{Outcome, Settlement};

/// Decides by the status of a response how the task of a handed-over call ended.
///
/// | the service returned | the task |
/// | --- | --- |
/// | 1xx, 2xx, 3xx | is `completed` |
/// | 4xx, 5xx, and above | is `failed`, with an error summary such as `404 Not Found` |
/// | gRPC with a `grpc-status` other than 0 in its headers | is `failed`, with a summary such as `gRPC status 5 (NOT_FOUND): no such row` |
/// | `Err` | is `failed`, with the text of the error |
///
/// A response is gRPC if its `Content-Type` begins with `application/grpc`. A service that fails before it has sent a
/// message puts the status into the headers. A status in the trailers is not seen: they come after the body, which is not
/// read. By default calls of gRPC stay in the foreground, see [`Rule::Grpc`](super::Rule::Grpc).
///
/// ```
/// use tower_offload::http::ClassifyStatus;
/// use tower_offload::offload::ClassifyResult;
/// use tower_offload::task::Outcome;
///
/// let mut response = http::Response::new(());
/// *response.status_mut() = http::StatusCode::CONFLICT;
/// let result: Result<_, &std::io::Error> = Ok(&response);
/// assert_eq!(ClassifyStatus::new().classify(result).outcome, Outcome::failed("409 Conflict"));
/// assert_eq!(ClassifyStatus::new().server_errors_only().classify(result).outcome, Outcome::Completed);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a classifier does nothing until it is given to a layer"]
pub struct ClassifyStatus {
    server_errors_only: bool,
}

impl ClassifyStatus {
    /// Client errors and server errors are failures.
    pub const fn new() -> Self {
        Self { server_errors_only: false }
    }

    /// Server errors are failures; client errors (4xx) are not, because the service has done its part. Of the codes of gRPC
    /// those that map to 5xx are failures: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`,
    /// `DATA_LOSS`, and a text that is no code.
    pub const fn server_errors_only(mut self) -> Self {
        self.server_errors_only = true;
        self
    }
}

impl<B, E: fmt::Display> ClassifyResult<Response<B>, E> for ClassifyStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Settlement {
        let first_failure = if self.server_errors_only { 500 } else { 400 };
        match result {
            Ok(response) if response.status().as_u16() >= first_failure => {
                Outcome::failed(Named(response.status()))
            }
            Ok(response) => match GrpcError::of(response.headers()) {
                Some(error) if !self.server_errors_only || error.is_of_server() => Outcome::failed(error),
                _ => Outcome::Completed,
            },
            Err(error) => Outcome::failed(error),
        }
        .into()
    }
}

/// The error in the headers of a gRPC response.
struct GrpcError<'a> {
    /// `None`: not a code.
    code: Option<u8>,
    /// Percent-encoded.
    message: &'a [u8],
}

impl<'a> GrpcError<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        if !headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes())) {
            return None;
        }
        let status = headers.get("grpc-status")?;
        let code = status.to_str().ok().and_then(|code| code.trim().parse().ok());
        let message = headers.get("grpc-message").map_or(&b""[..], |message| message.as_bytes());
        (code != Some(0)).then_some(Self { code, message })
    }

    /// Whether the code maps to a 5xx of HTTP.
    fn is_of_server(&self) -> bool {
        !matches!(self.code, Some(1 | 3 | 5..=11 | 16))
    }
}

impl fmt::Display for GrpcError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        match self.code {
            None => f.write_str("a gRPC status that is no code")?,
            Some(code) => {
                write!(f, "gRPC status {code}")?;
                if let Some(name) = NAMES.get(usize::from(code)) {
                    write!(f, " ({name})")?;
                }
            }
        }
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", percent_decode(self.message).decode_utf8_lossy())
    }
}

/// Displays a status code with its standard reason, if it has one.
struct Named(StatusCode);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())?;
        self.0.canonical_reason().map_or(Ok(()), |reason| write!(f, " {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(classify: ClassifyStatus, status: u16) -> Outcome {
        let response = Response::builder().status(status).body(()).unwrap();
        classify.classify(Ok::<_, &std::convert::Infallible>(&response)).outcome
    }

    #[test]
    fn the_status_class_decides() {
        for status in [100, 101, 200, 204, 302, 304, 399] {
            assert_eq!(outcome(ClassifyStatus::new(), status), Outcome::Completed, "{status}");
        }
        for (status, text) in [
            (400, "400 Bad Request"),
            (404, "404 Not Found"),
            (499, "499"),
            (500, "500 Internal Server Error"),
            (599, "599"),
            (999, "999"),
        ] {
            assert_eq!(outcome(ClassifyStatus::new(), status), Outcome::failed(text));
        }
    }

    #[test]
    fn client_errors_may_be_no_failures() {
        let classify = ClassifyStatus::new().server_errors_only();
        assert_eq!(outcome(classify, 404), Outcome::Completed);
        assert_eq!(outcome(classify, 499), Outcome::Completed);
        assert_eq!(outcome(classify, 500), Outcome::failed("500 Internal Server Error"));
    }

    #[test]
    fn an_error_of_the_service_is_a_failure_with_its_text() {
        let error = std::io::Error::other("connection reset");
        let settlement = ClassifyStatus::new().classify(Err::<&Response<()>, _>(&error));
        assert_eq!(settlement.outcome, Outcome::failed("connection reset"));
    }

    #[test]
    fn a_grpc_response_that_fails_in_its_headers_is_a_failure() {
        let grpc = |content_type: &str, status: &str, message: &str| {
            let response = Response::builder().header("content-type", content_type);
            let response = response.header("grpc-status", status).header("grpc-message", message);
            let response = response.body(()).unwrap();
            [ClassifyStatus::new(), ClassifyStatus::new().server_errors_only()]
                .map(|classify| classify.classify(Ok::<_, &std::convert::Infallible>(&response)).outcome)
        };
        let completed = || Outcome::Completed;
        assert_eq!(grpc("application/grpc", "0", ""), [completed(), completed()]);
        assert_eq!(grpc("application/json", "5", "no such row"), [completed(), completed()]);
        assert_eq!(
            grpc("application/grpc", "5", "no%20such row: %C3%A9 %zz"),
            [Outcome::failed("gRPC status 5 (NOT_FOUND): no such row: é %zz"), completed()]
        );
        for (content_type, status, message, text) in [
            ("Application/gRPC+proto", "13", "", "gRPC status 13 (INTERNAL)"),
            ("application/grpc-web", "99", "", "gRPC status 99"),
            ("application/grpc", "", "x", "a gRPC status that is no code: x"),
            ("application/grpc", "-1", "", "a gRPC status that is no code"),
            ("application/grpc", "9999", "", "a gRPC status that is no code"),
        ] {
            assert_eq!(grpc(content_type, status, message), [Outcome::failed(text), Outcome::failed(text)]);
        }
    }
}
