mod request;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::head::RequestHead;
use super::identity::Identity;
use super::rule::Rule;
use super::seen::Wanted;

/// Of user, session, agent and call id.
const NAMES: [Wanted; 4] = [
    Wanted::of("x-user-id"),
    Wanted::of("x-session-id"),
    Wanted::of("x-agent-id"),
    Wanted::of("x-request-id"),
];

type Only = Arc<dyn Fn(&RequestHead<'_>) -> bool + Send + Sync>;
type Rules = [Option<Only>; Rule::COUNT];
type Timeout = Arc<dyn Fn(&RequestHead<'_>) -> Option<Duration> + Send + Sync>;
type Naming = Arc<dyn for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync>;

/// Describes HTTP calls, with any body: who makes them, which of them may be handed over, and when.
///
/// | of the task | from | if there is none |
/// | --- | --- | --- |
/// | user | the [`Identity`]: by default a [`Caller`](super::Caller) in the extensions, else the header `X-User-ID` | the call stays in the foreground |
/// | session | the [`Caller`](super::Caller), else `X-Session-ID`, unless the identity believes no header | empty |
/// | agent | the [`Caller`](super::Caller), else `X-Agent-ID`, unless the identity believes no header | empty |
/// | call id | `X-Request-ID` | null |
/// | tool name | the method | |
/// | summary | method and path, without the query | |
///
/// A header that is there twice, is empty, is not UTF-8, or is longer than [`Caller::MAX_BYTES`](super::Caller::MAX_BYTES) counts as none. With
/// [`Identity::extension_only`] no header is believed, and with [`Identity::custom`] none but those that it reads
/// itself: the `Caller` of the table is then the one that it returns.
///
/// # Which calls stay in the foreground
///
/// - A call without a user: no user could read its task. [`Identity`] says when that is.
/// - A call that one of the [rules](Rule) keeps: its client could not read the placeholder, or has not sent the whole
///   request. [`rule`](Self::rule) replaces a rule.
/// - A call that [`only`](Self::only) excludes.
/// - With a describer of `BackgroundTasks`, a request to the routes that show the tasks.
///
/// The service answers such a call as without the layer, however long it takes. When it takes longer than the timeout,
/// a line of `tracing` at level `DEBUG` says why it stayed, at most one in five seconds for each reason.
///
/// # When the timeout begins
///
/// With the first `Pending` of the call; for a request whose body is [watched](super::watch_body), as
/// `BackgroundTasks::layer` does it, not before the body has been read to its end. A call that keeps its body without
/// reading it stays in the foreground, and is logged as the others are. The rule [`Rule::Body`] decides which calls wait
/// for their body.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_offload::http::{DescribeRequest, Identity};
///
/// let describe = DescribeRequest::new()
///     .identity(Identity::extension_only())
///     .only(|head| !head.uri().path().starts_with("/downloads/"))
///     .timeout(|head| head.uri().path().starts_with("/reports").then_some(Duration::from_secs(2)));
/// ```
#[derive(Clone)]
#[must_use = "a describer does nothing until it is given to a layer"]
pub struct DescribeRequest {
    /// In the order of [`NAMES`].
    names: [Wanted; 4],
    identity: Identity,
    /// In the order of [`Rule::ALL`]. `None`: all are as they are by default.
    rules: Option<Rules>,
    /// Whether each body that is not at its end is watched.
    bodies_are_watched: bool,
    /// The path that the routes begin with that show the tasks.
    task_routes: Option<Arc<str>>,
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
            identity: Identity::new(),
            rules: None,
            bodies_are_watched: false,
            task_routes: None,
            only: None,
            timeout: None,
            tool_name: None,
            summary: None,
        }
    }

    /// Who makes a call. Default: [`Identity::new`]. Give the same to the routes, or let
    /// `BackgroundTasks::layer` (feature `api`) make the layer: it does.
    pub fn identity(mut self, identity: impl Into<Identity>) -> Self {
        self.identity = identity.into();
        if let Some(wanted) = self.identity.wanted() {
            self.names[0] = wanted.clone();
        }
        self
    }

    /// As [`identity`](Self::identity) with [`Identity::header`].
    #[deprecated(since = "0.1.0", note = "use `identity(Identity::header(name))`")]
    pub fn user_header(self, name: HeaderName) -> Self {
        self.identity(Identity::header(name))
    }

    /// As [`identity`](Self::identity) with [`Identity::extension_only`].
    #[deprecated(since = "0.1.0", note = "use `identity(Identity::extension_only())`")]
    pub fn extension_only(self) -> Self {
        self.identity(Identity::extension_only())
    }

    /// The header that names the session, if the identity believes headers. Default: `X-Session-ID`.
    pub fn session_header(mut self, name: HeaderName) -> Self {
        self.names[1] = name.into();
        self
    }

    /// The header that names the agent, if the identity believes headers. Default: `X-Agent-ID`.
    pub fn agent_header(mut self, name: HeaderName) -> Self {
        self.names[2] = name.into();
        self
    }

    /// The header with the caller's own id for the call. Default: `X-Request-ID`.
    pub fn call_id_header(mut self, name: HeaderName) -> Self {
        self.names[3] = name.into();
        self
    }

    /// Replaces a rule: the call stays in the foreground where `stays` answers `true`. Runs for each call that has a
    /// user. A second closure for a rule replaces the first.
    ///
    /// For [`Rule::Body`] the closure runs where the body is not at its end, as far as the layer knows. Where the body is
    /// watched, `true` keeps the call until the body has been read to its end.
    pub fn rule(
        mut self,
        rule: Rule,
        stays: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rules.get_or_insert_default()[rule as usize] = Some(Arc::new(stays));
        self
    }

    /// Each body that is not at its end is watched, so that the head need not tell.
    #[cfg(feature = "api")]
    pub(crate) const fn with_watched_bodies(mut self) -> Self {
        self.bodies_are_watched = true;
        self
    }

    /// The routes that show the tasks: a request to read them must not become a task itself.
    #[cfg(feature = "api")]
    pub(crate) fn task_routes(mut self, path: impl Into<Arc<str>>) -> Self {
        self.task_routes = Some(path.into());
        self
    }

    /// Which of the calls that have a user and that no [rule](Self::rule) keeps may be handed over. Default: all.
    /// `false` leaves the call in the foreground. A second closure replaces the first.
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
}

impl Default for DescribeRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DescribeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeRequest")
            .field("identity", &self.identity)
            .field("session_header", self.names[1].name())
            .field("agent_header", self.names[2].name())
            .field("call_id_header", self.names[3].name())
            .finish_non_exhaustive()
    }
}
