use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

use super::problem::ProblemDetails;
use super::router::Api;

/// Tells whose tasks a request may see.
///
/// Implemented for closures `Fn(&http::request::Parts) -> Result<U, Unidentified>` where `U` is a `String`, a `&str`
/// or an `Arc<str>`; a closure has to name the type of its argument. It is asked once for each request, on the
/// thread that serves it, so it must not block.
///
/// An empty id stands for nobody and is answered with 401, whoever gave it.
pub trait IdentifyUser: Send + Sync + 'static {
    /// The id of the user, the same that the user's tasks were registered with.
    ///
    /// # Errors
    ///
    /// When the request names nobody, or cannot be believed.
    fn identify(&self, parts: &Parts) -> Result<Arc<str>, Unidentified>;

    /// How the OpenAPI document says that a caller is identified. Default: by the header `X-User-ID`. See also
    /// [`BackgroundTasks::security_scheme`](super::BackgroundTasks::security_scheme).
    fn security_scheme(&self) -> SecurityScheme {
        UserIdHeader::new().security_scheme()
    }
}

impl<F, U> IdentifyUser for F
where
    F: Fn(&Parts) -> Result<U, Unidentified> + Send + Sync + 'static,
    U: Into<Arc<str>>,
{
    fn identify(&self, parts: &Parts) -> Result<Arc<str>, Unidentified> {
        self(parts).map(Into::into)
    }
}

/// Why a request is nobody's: it names no user (401), or not in a way that can be read (400).
#[derive(Clone, Debug)]
pub struct Unidentified(Box<Answer>);

#[derive(Clone, Debug)]
struct Answer {
    problem: ProblemDetails,
    challenge: Option<HeaderValue>,
}

impl Unidentified {
    /// The request names no user that may ask: 401. `detail` is shown to the caller.
    ///
    /// The challenge that goes with the status is `ApiKey realm="background-tasks"`, unless
    /// [another](Self::with_challenge) is given.
    pub fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        let challenge = HeaderValue::from_static("ApiKey realm=\"background-tasks\"");
        Self(Box::new(Answer { problem: ProblemDetails::unidentified(detail), challenge: Some(challenge) }))
    }

    /// The request names a user, but not in a way that can be read: 400. `detail` is shown to the caller.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Answer { problem: ProblemDetails::bad_request(detail), challenge: None }))
    }

    /// Another `WWW-Authenticate`, such as `Bearer`.
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.0.challenge = Some(challenge);
        self
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.problem.detail)
    }
}

impl std::error::Error for Unidentified {}

impl IntoResponse for Unidentified {
    fn into_response(self) -> Response {
        let Answer { problem, challenge } = *self.0;
        let mut response = problem.into_response();
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Believes a request header, `X-User-ID` by default.
///
/// The value is the user's id: UTF-8, at most [`UserIdHeader::MAX_BYTES`] bytes, without the spaces and tabs around
/// it. A header that is missing or empty is 401; one that is repeated, longer or not UTF-8 is 400.
///
/// It is an identity and no secret. Use it behind a gateway that authenticates the caller, and that sets the header
/// itself or removes the one of the client: where clients reach the service directly, anybody is anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIdHeader {
    name: HeaderName,
}

impl UserIdHeader {
    /// The longest user id, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The header `X-User-ID`.
    #[must_use]
    pub const fn new() -> Self {
        Self { name: HeaderName::from_static("x-user-id") }
    }

    /// Another header. The OpenAPI document names it too.
    #[must_use]
    pub const fn named(name: HeaderName) -> Self {
        Self { name }
    }

    /// How people write the name; HTTP ignores the case.
    fn display_name(&self) -> Cow<'_, str> {
        match self.name.as_str() {
            "x-user-id" => "X-User-ID".into(),
            name => name.into(),
        }
    }

    fn missing(&self) -> Unidentified {
        let name = self.display_name();
        let error = Unidentified::new(format!("Say with the header {name} whose tasks you ask for."));
        // A header name has neither quotes nor controls, so that this is a header value.
        match HeaderValue::try_from(format!("ApiKey realm=\"background-tasks\", header=\"{name}\"")) {
            Ok(challenge) => error.with_challenge(challenge),
            Err(_) => error,
        }
    }
}

impl Default for UserIdHeader {
    fn default() -> Self {
        Self::new()
    }
}

impl IdentifyUser for UserIdHeader {
    fn identify(&self, parts: &Parts) -> Result<Arc<str>, Unidentified> {
        let malformed = |what: fmt::Arguments<'_>| {
            Unidentified::malformed(format!("The header {} {what}.", self.display_name()))
        };
        let mut values = parts.headers.get_all(&self.name).iter();
        let value = values.next().ok_or_else(|| self.missing())?;
        if values.next().is_some() {
            // Picking one would let whoever can add a line choose.
            return Err(malformed(format_args!("may be given only once")));
        }
        // HTTP/1 parsers trim, HTTP/2 ones do not.
        let value = trim_whitespace(value.as_bytes());
        if value.is_empty() {
            return Err(self.missing());
        }
        if value.len() > Self::MAX_BYTES {
            return Err(malformed(format_args!("may have at most {} bytes", Self::MAX_BYTES)));
        }
        let value = str::from_utf8(value).map_err(|_| malformed(format_args!("must be UTF-8")))?;
        Ok(value.into())
    }

    fn security_scheme(&self) -> SecurityScheme {
        let description = "The id of the user whose tasks are asked for: UTF-8, at most 256 bytes. It is an identity \
                           and no secret, to be set by the trusted gateway that has authenticated the caller; where \
                           clients reach the service directly, anybody can claim any id.";
        let name = self.display_name();
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(&*name, description)))
    }
}

/// The white space that HTTP allows around a header value.
fn trim_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whoever sends the request. An extractor and not a layer, so that a wrong method is 405 before it is 401.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Arc<str>);

impl FromRequestParts<Api> for Caller {
    type Rejection = Unidentified;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Unidentified> {
        let user_id = api.identity.identify(parts)?;
        // Tasks that were registered for nobody would otherwise be everybody's.
        if user_id.is_empty() {
            return Err(Unidentified::new("The request names nobody."));
        }
        Ok(Self(user_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: fn(&dyn IdentifyUser) = |_| {};

    fn identify(identity: &dyn IdentifyUser, header: &str, value: &[u8]) -> Result<Arc<str>, u16> {
        let request = http::Request::builder().header(header, HeaderValue::from_bytes(value).unwrap());
        let (parts, ()) = request.body(()).unwrap().into_parts();
        identity.identify(&parts).map_err(|error| error.0.problem.status)
    }

    #[test]
    fn a_closure_may_answer_any_kind_of_string() {
        let owned = |_: &Parts| Ok(String::from("a"));
        let borrowed = |_: &Parts| Ok("b");
        let shared = |_: &Parts| Ok::<Arc<str>, _>("c".into());
        let identities: [&dyn IdentifyUser; 3] = [&owned, &borrowed, &shared];
        let users = identities.map(|identity| identify(identity, "h", b"").unwrap());
        assert_eq!(users.each_ref().map(|user| &**user), ["a", "b", "c"]);
    }

    #[test]
    fn white_space_around_the_id_is_not_part_of_it() {
        let header = UserIdHeader::named(HeaderName::from_static("x-tenant"));
        assert_eq!(identify(&header, "x-tenant", b"\t a b \t").as_deref(), Ok("a b"));
        assert_eq!(identify(&header, "x-tenant", b" \t"), Err(401));
        assert_eq!(identify(&header, "x-tenant", "\u{a0}a".as_bytes()).as_deref(), Ok("\u{a0}a"));
        assert_eq!(identify(&header, "x-user-id", b"a"), Err(401));
    }
}
