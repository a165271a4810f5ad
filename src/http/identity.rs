use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::caller::{Caller, usable};
use super::head::RequestHead;
use super::seen::{self, Seen, Wanted};
use super::unidentified::Unidentified;
use crate::log_limit::LogLimit;
use crate::panics::catch;
use crate::task::logged;

/// Says which user makes a request, for the layer and for the routes.
///
/// | made by | the user is |
/// | --- | --- |
/// | [`new`](Self::new), the default | the [`Caller`] in the request's extensions, else the header `X-User-ID` |
/// | [`header`](Self::header) | the [`Caller`], else another header |
/// | [`extension_only`](Self::extension_only) | the [`Caller`]; no header is believed |
/// | [`custom`](Self::custom) | what an [`IdentifyUser`], such as a closure, answers |
///
/// A user id is UTF-8 of 1 to [`Caller::MAX_BYTES`] bytes. Spaces and tabs around a header's value do not belong to it.
///
/// | the request | the routes answer | the layer |
/// | --- | --- | --- |
/// | names no user, or an empty one | 401 | lets the call stay in the foreground |
/// | has the header more than once, or a user id that is too long or is not UTF-8 | 400 | the same |
/// | has a [`Caller`] whose user id is empty | 401, whatever the headers say | the same |
/// | makes a custom identity panic | 401; the panic is logged as an error | the same |
///
/// **A header is an identity and no secret.** The default is right behind a gateway that authenticates clients and sets
/// `X-User-ID` itself, or removes the one that a client sends. Where clients reach the service directly, authenticate in
/// a layer that inserts a [`Caller`], and use [`extension_only`](Self::extension_only).
///
/// Cloning is cheap: clones share a custom identity.
///
/// ```
/// use tower_offload::http::{Caller, Identity, RequestHead};
///
/// let mut request = http::Request::builder().header("X-User-ID", "mallory").body(())?;
/// assert_eq!(&*Identity::new().identify(&RequestHead::from(&request))?, "mallory");
/// assert!(Identity::extension_only().identify(&RequestHead::from(&request)).is_err());
///
/// request.extensions_mut().insert(Caller::new("alice"));
/// assert_eq!(&*Identity::new().identify(&RequestHead::from(&request))?, "alice");
/// assert_eq!(&*Identity::extension_only().identify(&RequestHead::from(&request))?, "alice");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Identity {
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// A caller, else this header.
    Header(Wanted),
    Extension,
    Custom(Arc<dyn IdentifyUser>),
}

impl Identity {
    /// The [`Caller`] in the extensions, else the header `X-User-ID`.
    #[must_use]
    pub const fn new() -> Self {
        Self { source: Source::Header(Wanted::of("x-user-id")) }
    }

    /// The [`Caller`] in the extensions, else the header `name`.
    #[must_use]
    pub fn header(name: HeaderName) -> Self {
        Self { source: Source::Header(name.into()) }
    }

    /// The [`Caller`] in the extensions, and no header.
    #[must_use]
    pub const fn extension_only() -> Self {
        Self { source: Source::Extension }
    }

    /// What `identity` answers. It is asked for each request, and decides alone: no extension and no header is read
    /// beside it. So the layer takes the session and the agent from its answer too.
    #[must_use]
    pub fn custom(identity: impl IdentifyUser) -> Self {
        Self { source: Source::Custom(Arc::new(identity)) }
    }

    /// The user who makes this request. Never empty, at most [`Caller::MAX_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// When the request names no user, or not in a way that can be read: see the [table](Self).
    pub fn identify(&self, head: &RequestHead<'_>) -> Result<Arc<str>, Unidentified> {
        match &self.source {
            Source::Custom(identity) => Ok(identify_caught(&**identity, head)?.shared_user_id()),
            Source::Extension => match head.extensions().get::<Caller>() {
                Some(caller) => caller.checked_user_id(),
                None => Err(Unidentified::new("The request is not authenticated.")),
            },
            Source::Header(name) => match head.extensions().get::<Caller>() {
                Some(caller) => caller.checked_user_id(),
                None => from_header(name.name(), head),
            },
        }
    }

    /// As [`identify`](Self::identify), with the session and the agent that the [`Caller`] in the extensions, or the
    /// answer of a custom identity, sets. For an identity around another one.
    ///
    /// # Errors
    ///
    /// As [`identify`](Self::identify).
    pub fn caller(&self, head: &RequestHead<'_>) -> Result<Caller, Unidentified> {
        match (&self.source, head.extensions().get::<Caller>()) {
            (Source::Custom(identity), _) => identify_caught(&**identity, head),
            (_, Some(caller)) => caller.check().map(|()| caller.clone()),
            (_, None) => self.identify(head).map(Caller::from),
        }
    }

    /// The header that names the user, if there is one.
    #[must_use]
    pub fn header_name(&self) -> Option<&HeaderName> {
        match &self.source {
            Source::Header(name) => Some(name.name()),
            Source::Extension => None,
            Source::Custom(identity) => identity.header_name(),
        }
    }

    /// The header to look for in one pass with others.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        match &self.source {
            Source::Header(name) => Some(name),
            Source::Extension | Source::Custom(_) => None,
        }
    }

    /// Whether headers may say something about the caller beside what the extension says.
    pub(super) const fn believes_headers(&self) -> bool {
        matches!(self.source, Source::Header(_))
    }

    /// The hook, for the one kind of identity that runs user code.
    pub(super) fn as_custom(&self) -> Option<&dyn IdentifyUser> {
        match &self.source {
            Source::Custom(identity) => Some(&**identity),
            Source::Header(_) | Source::Extension => None,
        }
    }

    /// The same as [`identify`](Self::identify) of an identity that is not custom, without the reasons and the copy:
    /// `header` is what the request has under [`wanted`](Self::wanted).
    #[inline]
    pub(super) fn user_id<'a>(&self, caller: Option<&'a Caller>, header: Seen<'a>) -> Option<&'a [u8]> {
        let user_id = match caller {
            Some(caller) => usable(caller.user_id().as_bytes()),
            None if self.believes_headers() => header.text(),
            None => None,
        };
        user_id.filter(|user_id| is_utf8(user_id))
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// As [`Identity::custom`] does it.
impl<I: IdentifyUser> From<I> for Identity {
    fn from(identity: I) -> Self {
        Self::custom(identity)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Header(name) => f.debug_tuple("Header").field(name.name()).finish(),
            Source::Extension => f.write_str("ExtensionOnly"),
            Source::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// A way of one's own to tell which user makes a request.
///
/// Implemented for closures `Fn(&RequestHead<'_>) -> Result<C, Unidentified>` where `C` is a [`Caller`], or for a user
/// without a session a `String`, a `&'static str` or an `Arc<str>`; a closure has to name the type of its argument. It
/// runs for each request, on the thread that serves it, so it must not block. Identification that has to wait, for a
/// session store or an introspection endpoint, belongs in a layer in front that inserts a [`Caller`].
///
/// ```
/// use tower_offload::http::{Identity, RequestHead, Unidentified};
///
/// let header = Identity::new();
/// let identity = Identity::custom(move |head: &RequestHead<'_>| {
///     let caller = header.caller(head)?;
///     if ["alice", "bob"].contains(&caller.user_id()) {
///         Ok(caller)
///     } else {
///         Err(Unidentified::new("This service knows alice and bob only."))
///     }
/// });
/// let request = http::Request::builder().header("X-User-ID", "carol").body(())?;
/// assert!(identity.identify(&RequestHead::from(&request)).is_err());
/// # Ok::<_, http::Error>(())
/// ```
pub trait IdentifyUser: Send + Sync + 'static {
    /// The caller. The routes show the tasks of its user; the layer gives a task its user, its session and its agent,
    /// none where it is not set.
    ///
    /// An empty user id stands for no user, and one of more than [`Caller::MAX_BYTES`] bytes is refused as malformed.
    ///
    /// # Errors
    ///
    /// When the request names no user, or cannot be believed.
    fn identify(&self, head: &RequestHead<'_>) -> Result<Caller, Unidentified>;

    /// The header that names the user, for the OpenAPI document. Default: none, so that the document has no security
    /// scheme until the host names one.
    fn header_name(&self) -> Option<&HeaderName> {
        None
    }
}

impl<F, C> IdentifyUser for F
where
    F: Fn(&RequestHead<'_>) -> Result<C, Unidentified> + Send + Sync + 'static,
    C: Into<Caller>,
{
    fn identify(&self, head: &RequestHead<'_>) -> Result<Caller, Unidentified> {
        self(head).map(Into::into)
    }
}

impl Caller {
    fn checked_user_id(&self) -> Result<Arc<str>, Unidentified> {
        self.check().map(|()| self.shared_user_id())
    }

    /// Whether the user id has a length that is allowed.
    fn check(&self) -> Result<(), Unidentified> {
        if self.user_id().is_empty() {
            return Err(Unidentified::new("The request names no user."));
        }
        if self.user_id().len() > Self::MAX_BYTES {
            let max = Self::MAX_BYTES;
            return Err(Unidentified::malformed(format!("The user id may have at most {max} bytes.")));
        }
        Ok(())
    }
}

/// Calls the identity hook. A panic in it must not end a connection that carries other requests, and identifies no user.
pub(super) fn identify_caught(
    identity: &dyn IdentifyUser,
    head: &RequestHead<'_>,
) -> Result<Caller, Unidentified> {
    match catch(|| identity.identify(head)) {
        Ok(caller) => caller.and_then(|caller| caller.check().map(|()| caller)),
        Err(message) => {
            static LINES: LogLimit = LogLimit::new();
            LINES.write(|left_out| {
                // The message may quote the request, with its token.
                let panic = logged(message);
                tracing::error!(panic, left_out, "the identity hook panicked; the request has no user");
            });
            Err(Unidentified::new("The request could not be identified."))
        }
    }
}

fn from_header(name: &HeaderName, head: &RequestHead<'_>) -> Result<Arc<str>, Unidentified> {
    let malformed = |what: fmt::Arguments<'_>| {
        Unidentified::malformed(format!("The header {} {what}.", display_name(name)))
    };
    let mut values = head.headers().get_all(name).iter();
    let value = values.next().ok_or_else(|| missing(name))?;
    if values.next().is_some() {
        // The gateway may have checked either one.
        return Err(malformed(format_args!("may be given only once")));
    }
    let value = seen::trim(value.as_bytes());
    if value.is_empty() {
        return Err(missing(name));
    }
    if value.len() > Caller::MAX_BYTES {
        return Err(malformed(format_args!("may have at most {} bytes", Caller::MAX_BYTES)));
    }
    let value = str::from_utf8(value).map_err(|_| malformed(format_args!("must be UTF-8")))?;
    Ok(value.into())
}

fn missing(name: &HeaderName) -> Unidentified {
    let name = display_name(name);
    let error = Unidentified::new(format!("Say with the header {name} whose tasks you ask for."));
    // A header name has neither quotes nor controls, so that this is a header value.
    match HeaderValue::try_from(format!("ApiKey realm=\"background-tasks\", header=\"{name}\"")) {
        Ok(challenge) => error.with_challenge(challenge),
        Err(_) => error,
    }
}

/// The name as people write it; HTTP ignores the case.
pub(crate) fn display_name(name: &HeaderName) -> &str {
    match name.as_str() {
        "x-user-id" => "X-User-ID",
        name => name,
    }
}

/// Nearly all user ids are ASCII, and to find that out costs less.
fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || str::from_utf8(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: fn(&dyn IdentifyUser) = |_| {};

    fn identify(identity: &Identity, header: &str, value: &[u8]) -> Result<Arc<str>, bool> {
        let request = http::Request::builder().header(header, HeaderValue::from_bytes(value).unwrap());
        let request = request.body(()).unwrap();
        let head = RequestHead::from(&request);
        let whole = identity.identify(&head);
        // What the layer sees is the same.
        let [header] = identity.wanted().map_or([Seen::Absent], |name| {
            let mut values = request.headers().get_all(name.name()).iter();
            [values.next().map_or(Seen::Absent, Seen::Once)]
        });
        if identity.as_custom().is_none() {
            let short = identity.user_id(request.extensions().get(), header);
            assert_eq!(short, whole.as_ref().ok().map(|user_id| user_id.as_bytes()));
        }
        whole.map_err(|error| error.is_malformed())
    }

    #[test]
    fn a_closure_may_answer_any_kind_of_string() {
        let owned = Identity::from(|_: &RequestHead<'_>| Ok(String::from("a")));
        let borrowed = Identity::from(|_: &RequestHead<'_>| Ok("b"));
        let shared = Identity::from(|_: &RequestHead<'_>| Ok::<Arc<str>, _>("c".into()));
        let users = [owned, borrowed, shared].map(|identity| identify(&identity, "h", b"").unwrap());
        assert_eq!(users.each_ref().map(|user| &**user), ["a", "b", "c"]);
    }

    #[test]
    fn a_closure_is_held_to_the_same_lengths() {
        let of = |len: usize| Identity::from(move |_: &RequestHead<'_>| Ok("a".repeat(len)));
        assert_eq!(identify(&of(0), "h", b""), Err(false));
        assert_eq!(identify(&of(256), "h", b"").unwrap().len(), 256);
        assert_eq!(identify(&of(257), "h", b""), Err(true));
    }

    #[test]
    fn white_space_around_the_id_is_not_part_of_it() {
        let header = Identity::header(HeaderName::from_static("x-tenant"));
        assert_eq!(identify(&header, "x-tenant", b"\t a b \t").as_deref(), Ok("a b"));
        assert_eq!(identify(&header, "x-tenant", b" \t"), Err(false));
        assert_eq!(identify(&header, "x-tenant", "\u{a0}a".as_bytes()).as_deref(), Ok("\u{a0}a"));
        assert_eq!(identify(&header, "x-user-id", b"a"), Err(false));
    }
}
