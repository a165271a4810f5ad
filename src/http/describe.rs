use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, Request};

use super::call::{HttpCall, Parts};
use super::caller::{Caller, usable};
use super::head::RequestHead;
use super::seen::{self, Seen, Wanted};
use crate::offload::DescribeCall;

/// Of user, session, agent and call id, and the two that tell of a wait for a stream.
const NAMES: [Wanted; 6] = [
    Wanted::of("x-user-id"),
    Wanted::of("x-session-id"),
    Wanted::of("x-agent-id"),
    Wanted::of("x-request-id"),
    Wanted::of("upgrade"),
    Wanted::of("accept"),
];

/// How much of a path is kept, in bytes. More than a summary shows, so that the cut is still seen as one.
const MAX_PATH_BYTES: usize = 1024;

type Only = Arc<dyn Fn(&RequestHead<'_>) -> bool + Send + Sync>;
type Timeout = Arc<dyn Fn(&RequestHead<'_>) -> Option<Duration> + Send + Sync>;
type Naming = Arc<dyn for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync>;

/// Tells who makes an HTTP call and what it is, for requests with any body.
///
/// | of the task | from | if there is none |
/// | --- | --- | --- |
/// | user | [`Caller`] in the extensions, else header `X-User-ID` | the call is never handed over |
/// | session | [`Caller`], else `X-Session-ID` | empty |
/// | agent | [`Caller`], else `X-Agent-ID` | empty |
/// | call id | `X-Request-ID` | null |
/// | tool name | the method | |
/// | summary | method and path, without the query | |
///
/// A header that is there twice, is empty, is not UTF-8, or is longer than [`Caller::MAX_BYTES`] counts as none.
///
/// **The headers are believed.** They are right where something in front sets them and removes what clients send.
/// Where clients talk to this service directly, authenticate in a layer, let it insert a [`Caller`], and call
/// [`extension_only`](Self::extension_only).
///
/// # What is never handed over
///
/// - A call without a user: nobody could see its task.
/// - `CONNECT`, and requests with an `Upgrade` header: their client waits for a connection, not for an answer. An
///   offer of `h2c` is no such wait.
/// - A call whose client accepts nothing but `text/event-stream`: it could not read the placeholder.
/// - What [`only`](Self::only) excludes.
///
/// Such calls are served as without the layer, however long they take.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_offload::http::DescribeRequest;
///
/// let describe = DescribeRequest::new()
///     .only(|head| !head.uri().path().starts_with("/downloads/"))
///     .timeout(|head| head.uri().path().starts_with("/reports").then_some(Duration::from_secs(2)))
///     .extension_only();
/// ```
#[derive(Clone)]
#[must_use = "a describer does nothing until it is given to a layer"]
pub struct DescribeRequest {
    /// In the order of [`NAMES`].
    names: [Wanted; 6],
    extension_only: bool,
    only: Option<Only>,
    timeout: Option<Timeout>,
    tool_name: Option<Naming>,
    summary: Option<Naming>,
}

impl DescribeRequest {
    /// All calls that have a user, described as in the [table](Self).
    pub const fn new() -> Self {
        Self {
            names: NAMES,
            extension_only: false,
            only: None,
            timeout: None,
            tool_name: None,
            summary: None,
        }
    }

    /// The header that names the user. Default: `X-User-ID`.
    pub fn user_header(mut self, name: HeaderName) -> Self {
        self.names[0] = name.into();
        self
    }

    /// The header that names the session. Default: `X-Session-ID`.
    pub fn session_header(mut self, name: HeaderName) -> Self {
        self.names[1] = name.into();
        self
    }

    /// The header that names the agent. Default: `X-Agent-ID`.
    pub fn agent_header(mut self, name: HeaderName) -> Self {
        self.names[2] = name.into();
        self
    }

    /// The header with the caller's own id for the call. Default: `X-Request-ID`.
    pub fn call_id_header(mut self, name: HeaderName) -> Self {
        self.names[3] = name.into();
        self
    }

    /// Believes only the [`Caller`] in the extensions; the headers of user, session and agent are not read. The
    /// call id is, since nothing is granted for it.
    pub const fn extension_only(mut self) -> Self {
        self.extension_only = true;
        self
    }

    /// Which calls may be handed over. Default: all. Runs for each call that has a user; `false` leaves the call
    /// in the foreground. A second closure replaces the first.
    pub fn only(mut self, only: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Arc::new(only));
        self
    }

    /// How long a call may take before it is handed over; `None` for as long as the layer says, which is the
    /// default. Runs for each call that may be handed over. See also [`prefer_wait`](super::prefer_wait).
    pub fn timeout(
        mut self,
        timeout: impl Fn(&RequestHead<'_>) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.timeout = Some(Arc::new(timeout));
        self
    }

    /// The name of what is called; `None` for the method, which is the default. Runs for each call that may be
    /// handed over.
    ///
    /// A good name is one of few, so the route and not the path. With axum, on a layer that
    /// `Router::layer` or `route_layer` has put behind the routing:
    ///
    /// ```
    /// # use axum::extract::MatchedPath;
    /// # use tower_offload::http::DescribeRequest;
    /// let describe = DescribeRequest::new()
    ///     .tool_name(|head| Some(head.extensions().get::<MatchedPath>()?.as_str().into()));
    /// ```
    pub fn tool_name(
        mut self,
        tool_name: impl for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.tool_name = Some(Arc::new(tool_name));
        self
    }

    /// One line about the call, for people; `None` for method and path, which is the default. Runs for each call
    /// that may be handed over. For paths with something in them that no list should show, and for routers that
    /// take a prefix away from the path.
    ///
    /// The query is left out by default, because queries carry tokens and personal data.
    pub fn summary(
        mut self,
        summary: impl for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.summary = Some(Arc::new(summary));
        self
    }

    fn describe(&self, head: &RequestHead<'_>) -> Option<HttpCall> {
        let [user, session, agent, call, upgrade, accept] = seen::find(head.headers(), &self.names);
        let caller = head.extensions().get::<Caller>();
        // What an extension leaves open a header may say, but never the user: that layer has said who it is.
        let user_id = self.field(caller.map(Caller::user_id), user).filter(|user| is_utf8(user))?;
        let session_id = self.field(caller.and_then(Caller::session_id), session).unwrap_or_default();
        let agent_id = self.field(caller.and_then(Caller::agent_id), agent).unwrap_or_default();
        if head.method() == Method::CONNECT
            // Some clients offer h2c with each request in plain text, and are content with an answer in HTTP/1.1.
            || upgrade.is_other_than(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
            || accept.is_just(|accept| accept == b"text/event-stream")
            || self.only.as_ref().is_some_and(|only| !only(head))
        {
            return None;
        }
        let parts = Parts {
            user_id,
            session_id,
            agent_id,
            call_id: call.text().unwrap_or_default(),
            method: head.method().as_str(),
            path: cut(head.uri().path()),
        };
        let timeout = || self.timeout.as_ref().and_then(|timeout| timeout(head));
        if self.tool_name.is_none() && self.summary.is_none() {
            return Some(HttpCall::new(parts, timeout()));
        }
        let tool_name = self.tool_name.as_ref().and_then(|name| name(head));
        let summary = self.summary.as_ref().and_then(|summary| summary(head));
        Some(HttpCall::named(parts, tool_name.as_deref(), summary.as_deref(), timeout()))
    }

    /// What the caller's extension says, else what the header says.
    fn field<'a>(&self, set: Option<&'a str>, header: Seen<'a>) -> Option<&'a [u8]> {
        match set {
            Some(text) => usable(text.as_bytes()),
            None if self.extension_only => None,
            None => header.text(),
        }
    }
}

/// Nearly all texts are ASCII, and to find that out costs less.
fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || std::str::from_utf8(text).is_ok()
}

fn cut(path: &str) -> &str {
    if path.len() <= MAX_PATH_BYTES {
        return path;
    }
    let end = (0..=MAX_PATH_BYTES).rev().find(|&end| path.is_char_boundary(end));
    &path[..end.unwrap_or(0)]
}

impl Default for DescribeRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> DescribeCall<Request<B>> for DescribeRequest {
    type Call = HttpCall;

    fn describe_call(&self, request: &Request<B>) -> Option<HttpCall> {
        self.describe(&RequestHead::from(request))
    }
}

impl fmt::Debug for DescribeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeRequest")
            .field("user_header", self.names[0].name())
            .field("session_header", self.names[1].name())
            .field("agent_header", self.names[2].name())
            .field("call_id_header", self.names[3].name())
            .field("extension_only", &self.extension_only)
            .finish_non_exhaustive()
    }
}
