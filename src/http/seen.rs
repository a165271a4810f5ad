use http::{HeaderMap, HeaderName, HeaderValue};

use super::caller::usable;

/// The name of a header to look for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    name: HeaderName,
    /// Differs for nearly all other names, and costs less to compare than a text.
    key: u16,
}

impl Wanted {
    /// This name, in lower case.
    pub(super) const fn of(name: &'static str) -> Self {
        Self { name: HeaderName::from_static(name), key: key(name.as_bytes()) }
    }

    pub(super) const fn name(&self) -> &HeaderName {
        &self.name
    }
}

impl From<HeaderName> for Wanted {
    fn from(name: HeaderName) -> Self {
        let key = key(name.as_str().as_bytes());
        Self { name, key }
    }
}

/// The length and the third byte: it is the first one behind the `x-` of many names.
const fn key(name: &[u8]) -> u16 {
    let third = if name.len() > 2 { name[2] } else { 0 };
    u16::from_be_bytes([name.len().to_le_bytes()[0], third])
}

/// What a request has under one header name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Seen<'a> {
    #[default]
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> Seen<'a> {
    /// The text of a header that the request has once. A repeated header counts as none: a gateway may have checked the other
    /// value.
    ///
    /// It is not checked to be UTF-8: most calls are answered before that matters.
    #[inline]
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            // HTTP/1 parsers trim, HTTP/2 ones do not; the REST view reads its header the same way.
            Self::Once(value) => usable(trim(value.as_bytes())),
            Self::Absent | Self::Repeated => None,
        }
    }
}

/// Without the spaces and tabs at both ends.
#[inline]
pub(super) fn trim(text: &[u8]) -> &[u8] {
    match text {
        // Nearly always there are none. Every other byte that a header may have is above the space.
        [first, .., last] if *first > b' ' && *last > b' ' => text,
        _ => trim_slowly(text),
    }
}

#[inline(never)]
fn trim_slowly(mut text: &[u8]) -> &[u8] {
    while let [b'\t' | b' ', rest @ ..] | [rest @ .., b'\t' | b' '] = text {
        text = rest;
    }
    text
}

/// Headers that may keep a call in the foreground, each a bit of [`Found::hints`]: `Rule` decides.
pub(super) mod hint {
    /// `Upgrade`.
    pub(in crate::http) const UPGRADE: u8 = 1;
    /// `Accept` with a value that is not one of the usual ones.
    pub(in crate::http) const ACCEPT: u8 = 1 << 1;
    /// A `Content-Type` that begins as gRPC's does.
    pub(in crate::http) const GRPC: u8 = 1 << 2;
    /// `Content-Length` other than 0, or `Transfer-Encoding`.
    pub(in crate::http) const BODY: u8 = 1 << 3;
    /// `Content-Length`.
    pub(in crate::http) const LENGTH: u8 = 1 << 4;
}

/// The headers that one pass has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// In the order of the names that were looked for.
    pub(super) ids: [Seen<'a>; 4],
    /// See [`hint`].
    pub(super) hints: u8,
}

/// Looks for all `wanted`, and for the headers that [`hint`] names, in one pass: a request has few headers, and their
/// keys tell most of them apart, so that this costs less than to hash each name.
#[inline(always)]
pub(super) fn find<'a>(headers: &'a HeaderMap, wanted: &[Wanted; 4]) -> Found<'a> {
    let mut found = Found { ids: [Seen::Absent; 4], hints: 0 };
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        let key = key(name);
        for (wanted, seen) in wanted.iter().zip(&mut found.ids) {
            if wanted.key == key && wanted.name.as_str().as_bytes() == name {
                *seen = match seen {
                    Seen::Absent => Seen::Once(value),
                    Seen::Once(_) | Seen::Repeated => Seen::Repeated,
                };
            }
        }
        // The third bytes of the names below, among those of all letters. This costs less than to compare all keys.
        const THIRD: u32 = 1 << (b'g' & 31) | 1 << (b'c' & 31) | 1 << (b'n' & 31) | 1 << (b'a' & 31);
        if THIRD >> (key & 31) & 1 != 0 {
            found.hints |= hint_of(key, name, value);
        }
    }
    found
}

#[inline]
fn hint_of(key: u16, name: &[u8], value: &HeaderValue) -> u8 {
    const UPGRADE: u16 = self::key(b"upgrade");
    const ACCEPT: u16 = self::key(b"accept");
    const CONTENT_TYPE: u16 = self::key(b"content-type");
    const CONTENT_LENGTH: u16 = self::key(b"content-length");
    const TRANSFER_ENCODING: u16 = self::key(b"transfer-encoding");

    match key {
        UPGRADE if name == b"upgrade" => hint::UPGRADE,
        ACCEPT if name == b"accept" && value != "*/*" && value != "application/json" => hint::ACCEPT,
        CONTENT_TYPE if name == b"content-type" && is_grpc(value.as_bytes()) => hint::GRPC,
        CONTENT_LENGTH if name == b"content-length" => {
            if value == "0" {
                hint::LENGTH
            } else {
                hint::LENGTH | hint::BODY
            }
        }
        TRANSFER_ENCODING if name == b"transfer-encoding" => hint::BODY,
        _ => 0,
    }
}

/// Whether this `Content-Type` is one of the gRPC family: `application/grpc`, `application/grpc+proto`,
/// `application/grpc-web`, in any case.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    trim(content_type).get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}
