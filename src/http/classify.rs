use std::fmt;

use http::{Response, StatusCode};

use crate::offload::ClassifyResult;
use crate::task::{Outcome, Settlement};

/// Tells by its status code whether a handed-over call did what it was asked.
///
/// | the service returned | the task |
/// | --- | --- |
/// | 1xx, 2xx, 3xx | is `completed` |
/// | 4xx, 5xx, and whatever is above | is `failed`, with an error summary such as `404 Not Found` |
/// | `Err` | is `failed`, with the text of the error |
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

    /// Client errors (4xx) are no failures: the service did its part when it said so.
    pub const fn server_errors_only(mut self) -> Self {
        self.server_errors_only = true;
        self
    }
}

impl<B, E: fmt::Display> ClassifyResult<Response<B>, E> for ClassifyStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Settlement {
        let first_failure = if self.server_errors_only { 500 } else { 400 };
        match result.map(Response::status) {
            Ok(status) if status.as_u16() < first_failure => Outcome::Completed,
            Ok(status) => Outcome::failed(Named(status)),
            Err(error) => Outcome::failed(error),
        }
        .into()
    }
}

/// The code with its standard reason, or alone if it has none.
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
}
