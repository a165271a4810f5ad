use std::borrow::Cow;
use std::fmt;

use http::HeaderValue;

/// Why a request belongs to no user: it names none (401), or not in a way that can be read (400).
///
/// With the feature `api` it is a response of axum: problem details of RFC 9457, and `WWW-Authenticate` with a 401.
#[derive(Clone, Debug)]
pub struct Unidentified(Box<Reason>);

#[derive(Clone, Debug)]
struct Reason {
    is_malformed: bool,
    detail: Cow<'static, str>,
    challenge: Option<HeaderValue>,
}

impl Unidentified {
    /// The request names no user that may ask: 401. `detail` is shown to the caller.
    ///
    /// The challenge that goes with the status is `ApiKey realm="background-tasks"`, unless
    /// [another](Self::with_challenge) is given.
    pub fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        let challenge = HeaderValue::from_static("ApiKey realm=\"background-tasks\"");
        Self(Box::new(Reason { is_malformed: false, detail: detail.into(), challenge: Some(challenge) }))
    }

    /// The request names a user, but not in a way that can be read: 400. `detail` is shown to the caller.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Reason { is_malformed: true, detail: detail.into(), challenge: None }))
    }

    /// Another `WWW-Authenticate`, such as `Bearer`.
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Whether the request names a user in a way that cannot be read: 400, and not 401.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.0.is_malformed
    }

    /// The text for the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The `WWW-Authenticate` of the answer.
    #[must_use]
    pub fn challenge(&self) -> Option<&HeaderValue> {
        self.0.challenge.as_ref()
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl std::error::Error for Unidentified {}
