use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Version};

use super::grammar::{elements, pair, parameters};
use super::head::RequestHead;
use super::seen::{self, Found, hint};

/// Why a call stays in the foreground, by the head of its request: a call is handed over only if its client can read the
/// placeholder and has sent the whole request.
///
/// All rules are on by default. [`DescribeRequest::rule`](super::DescribeRequest::rule) replaces one of them:
///
/// ```
/// use tower_offload::http::{DescribeRequest, Rule};
///
/// let describe = DescribeRequest::new()
///     // Clients of this service read JSON, whatever they say that they accept.
///     .rule(Rule::EventStream, |_| false)
///     // One more header for the rule to look at.
///     .rule(Rule::Connection, |head| Rule::Connection.applies(head) || head.headers().contains_key("x-tunnel"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The client waits for a connection, and not for an answer: the method is `CONNECT`, or the request has an `Upgrade`
    /// header. An offer of `h2c` alone does not count.
    Connection,
    /// The method is `HEAD`: its answer has no body to name the task in, and stands for that of a `GET`.
    Head,
    /// The client reads server-sent events: its `Accept` has `text/event-stream`, and nothing that `application/json`
    /// matches; with a `POST`, whatever else it has, because clients of MCP's streamable HTTP take a response of either
    /// type for the answer to their message.
    ///
    /// All spellings count: case, parameters, `q`, lists, several headers. What is not in the grammar is ignored.
    EventStream,
    /// The client reads gRPC: its `Content-Type` begins with `application/grpc`, in any case, so that gRPC-Web belongs
    /// to it.
    Grpc,
    /// The client may still be sending the body of the request: some stop as soon as they see an answer, and the
    /// upload is lost.
    ///
    /// By the head, that is a `Content-Length` other than 0, or a `Transfer-Encoding`; from HTTP/2 on also a method
    /// other than `GET`, `HEAD`, `DELETE`, `OPTIONS`, `TRACE` and `CONNECT` without a `Content-Length`.
    ///
    /// Where the body is [watched](super::watch_body), the rule does not go by the head, and keeps the call until the
    /// body has been read to its end: then the timeout begins.
    Body,
}

impl Rule {
    /// All rules, in the order in which they are asked.
    pub const ALL: &'static [Self] =
        &[Self::Connection, Self::Head, Self::EventStream, Self::Grpc, Self::Body];

    pub(super) const COUNT: usize = Self::ALL.len();

    /// Whether the call of this request stays in the foreground by this rule, as it is by default. For
    /// [`Rule::Body`] by the head alone, whether the body is watched or not.
    #[must_use]
    pub fn applies(self, head: &RequestHead<'_>) -> bool {
        match self {
            Self::Connection => head.method() == Method::CONNECT || upgrades(head),
            Self::Head => head.method() == Method::HEAD,
            Self::EventStream => reads_events(head),
            Self::Grpc => {
                head.headers().get_all(CONTENT_TYPE).iter().any(|value| seen::is_grpc(value.as_bytes()))
            }
            Self::Body => announces_body(head),
        }
    }

    /// The first rule that applies, by the headers that one pass has found. For most requests none does.
    #[inline]
    pub(super) fn first(head: &RequestHead<'_>, found: &Found<'_>, body_is_watched: bool) -> Option<Self> {
        let in_question = hint::UPGRADE | hint::ACCEPT | hint::GRPC;
        let body = !body_is_watched
            && (found.hints & hint::BODY != 0
                || (head.version() > Version::HTTP_11
                    && found.hints & hint::LENGTH == 0
                    && *head.method() != Method::GET));
        if found.hints & in_question == 0
            && !body
            && *head.method() != Method::CONNECT
            && *head.method() != Method::HEAD
        {
            return None;
        }
        Self::first_of_all(head, body_is_watched)
    }

    #[inline(never)]
    fn first_of_all(head: &RequestHead<'_>, body_is_watched: bool) -> Option<Self> {
        let may_apply = |rule: &Self| !(body_is_watched && *rule == Self::Body);
        Self::ALL.iter().copied().filter(may_apply).find(|rule| rule.applies(head))
    }
}

/// Some clients offer h2c with each request in plain text, and are content with an answer in HTTP/1.1.
fn upgrades(head: &RequestHead<'_>) -> bool {
    let mut protocols = head.headers().get_all(UPGRADE).iter().flat_map(|value| elements(value.as_bytes()));
    protocols.any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// How well a media range of `Accept` matches `application/json`; more is better.
fn matches_json(range: &[u8]) -> Option<u8> {
    let is = |other: &[u8]| range.eq_ignore_ascii_case(other);
    if is(b"application/json") {
        Some(2)
    } else if is(b"application/*") {
        Some(1)
    } else {
        is(b"*/*").then_some(0)
    }
}

fn reads_events(head: &RequestHead<'_>) -> bool {
    let mut events = false;
    // The best match, and whether it is acceptable.
    let mut json: Option<(u8, bool)> = None;
    for element in head.headers().get_all(ACCEPT).iter().flat_map(|value| elements(value.as_bytes())) {
        let mut parts = parameters(element);
        let Some(range) = parts.next() else { continue };
        let is_acceptable =
            !parts.filter_map(pair).any(|(name, value)| name.eq_ignore_ascii_case(b"q") && is_zero(&value));
        events |= is_acceptable && range.eq_ignore_ascii_case(b"text/event-stream");
        if let Some(rank) = matches_json(range)
            && json.is_none_or(|(best, accepted)| rank > best || (rank == best && !accepted))
        {
            json = Some((rank, is_acceptable));
        }
    }
    let takes_json = json.is_some_and(|(_, is_acceptable)| is_acceptable);
    events && (!takes_json || *head.method() == Method::POST)
}

/// Whether a `q` is zero: `0`, `0.`, `0.000`.
fn is_zero(q: &[u8]) -> bool {
    matches!(q, [b'0'] | [b'0', b'.', ..]) && q.iter().skip(2).all(|&digit| digit == b'0')
}

fn announces_body(head: &RequestHead<'_>) -> bool {
    let headers = head.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        return true;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().peekable();
    if lengths.peek().is_some() {
        return lengths.any(|length| {
            let length = seen::trim(length.as_bytes());
            length.is_empty() || length.iter().any(|&digit| digit != b'0')
        });
    }
    // HTTP/1 has no body without one of the two. Later versions have no need of them, but clients send the length 0 with
    // methods that usually have a body.
    let without_body =
        [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT];
    head.version() > Version::HTTP_11 && !without_body.contains(head.method())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;
    use crate::http::seen::Wanted;

    const WANTED: [Wanted; 4] = [Wanted::of("a"), Wanted::of("b"), Wanted::of("c"), Wanted::of("d")];

    fn header() -> impl Strategy<Value = (&'static str, &'static str)> {
        let names =
            vec!["upgrade", "accept", "content-type", "content-length", "transfer-encoding", "x-user-id"];
        let values = vec![
            "",
            "0",
            "00",
            "5",
            "h2c",
            "H2C",
            "h2c, websocket",
            "websocket",
            "*/*",
            "*/*;q=0",
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream;q=0",
            "application/json",
            "application/json, text/event-stream",
            "application/*;q=0",
            "text/html",
            "application/grpc",
            "Application/GRPC+proto",
            "application/grpc-web",
            "chunked",
        ];
        (prop::sample::select(names), prop::sample::select(values))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// One pass over the headers and the rules, asked one by one, agree.
        #[test]
        fn the_short_way_is_the_long_one(
            method in prop::sample::select(&["GET", "HEAD", "POST", "CONNECT", "QUERY"][..]),
            version in prop::sample::select(&[Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][..]),
            headers in prop::collection::vec(header(), 0..6),
            body_is_watched: bool,
        ) {
            let mut request = Request::builder().method(method).version(version).body(()).unwrap();
            for (name, value) in headers {
                request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let head = RequestHead::from(&request);
            let found = seen::find(head.headers(), &WANTED);
            let short = Rule::first(&head, &found, body_is_watched);
            prop_assert_eq!(short, Rule::first_of_all(&head, body_is_watched));
        }
    }
}
