//! Refuses requests that name another host, and requests of foreign web pages.
//!
//! The service runs commands and listens on the loopback address, where each browser of the machine can reach it. A
//! page can make its own name resolve to `127.0.0.1`; the browser then sends the page's requests here and takes the
//! answers for those of the page's own server. Such a request carries the page's name in `Host` and `Origin`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_offload::api::ProblemDetails;

/// A host without its port. Different spellings of one host are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    /// In lower case, without the dot of the root at its end.
    Name(String),
}

impl Host {
    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }

    /// The host of `host` or `host:port`.
    fn of_authority(text: &str) -> Option<Self> {
        // The colons of an IPv6 address are in brackets.
        let end = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[end..].find(':') {
            Some(at) => (&text[..end + at], &text[end + at + 1..]),
            None => (text, ""),
        };
        port.bytes().all(|byte| byte.is_ascii_digit()).then(|| host.parse().ok())?
    }

    /// The host of `http://host:port`. There is none in `null`, which pages without an origin of their own send.
    fn of_origin(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(())?;
        Self::of_authority(authority)
    }
}

impl FromStr for Host {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().map_err(drop)?;
            return Ok(Self::Address(address.to_canonical()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let is_part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_part_of_name) {
            return Err(());
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// Reads a host from the command line, where an IPv6 address needs no brackets.
pub(crate) fn allowed_host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(Host::Address(address.to_canonical()));
    }
    text.parse()
        .map_err(|()| "not a host name in ASCII without scheme and port, nor an IP address".to_owned())
}

/// Lets requests through that name a loopback host or one of `allowed`, on all routes of `app`.
///
/// Other hosts are answered with 421, other origins with 403. A request without `Origin` comes from no web page, or
/// from a page of the service itself. A request that names no host at all, as HTTP/1.0 has it, is refused.
pub(crate) fn only(allowed: Vec<Host>, app: Router) -> Router {
    app.layer(from_fn_with_state(Allowed(allowed.into()), check))
}

#[derive(Clone)]
struct Allowed(Arc<[Host]>);

impl Allowed {
    fn contains(&self, host: &Host) -> bool {
        host.is_loopback() || self.0.contains(host)
    }
}

async fn check(State(allowed): State<Allowed>, request: Request, next: Next) -> Response {
    let is_allowed = |host: Option<Host>| host.is_some_and(|host| allowed.contains(&host));
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);

    let headers = request.headers();
    // In HTTP/2, and where an HTTP/1 client sends a whole URL, the target names the host, beside or instead of `Host`.
    let target = request.uri().authority().map(|authority| Host::of_authority(authority.as_str()));
    let in_header = headers.get_all(HOST).iter().map(|value| Host::of_authority(&text(value)?));
    let hosts: Vec<_> = target.into_iter().chain(in_header).collect();
    if hosts.is_empty() || !hosts.into_iter().all(is_allowed) {
        return refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "host-not-allowed",
            "Host not allowed",
            "The service answers requests for localhost and loopback addresses. \
             The argument --allow-host NAME adds a host.",
        );
    }
    if headers.get_all(HOST).iter().count() > 1 {
        return ProblemDetails::bad_request("Host is given more than once.").into_response();
    }
    if !headers.get_all(ORIGIN).iter().map(|value| Host::of_origin(&text(value)?)).all(is_allowed) {
        return refusal(
            StatusCode::FORBIDDEN,
            "origin-not-allowed",
            "Origin not allowed",
            "The service answers pages of localhost and loopback addresses. \
             The argument --allow-host NAME adds a host.",
        );
    }
    next.run(request).await
}

fn refusal(status: StatusCode, kind: &str, title: &'static str, detail: &'static str) -> Response {
    ProblemDetails::new(status, format!("urn:agent-service:problem:{kind}"), title, detail).into_response()
}
