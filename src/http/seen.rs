use http::{HeaderMap, HeaderName, HeaderValue};

use super::caller::usable;

/// The name of a header to look for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    name: HeaderName,
    /// Tells nearly all other names apart, for less than a comparison of texts.
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
    /// The text of a header that is there once. Two values are none: whoever is in front may have checked the other.
    ///
    /// That it is UTF-8 is not looked at: most calls are answered before anybody wants to know.
    #[inline]
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            // HTTP/1 parsers trim, HTTP/2 ones do not; the REST view reads its header the same way.
            Self::Once(value) => usable(trim(value.as_bytes())),
            Self::Absent | Self::Repeated => None,
        }
    }

    /// Whether there is a value that `matches` does not accept, or more than one.
    pub(super) fn is_other_than(self, matches: impl Fn(&[u8]) -> bool) -> bool {
        match self {
            Self::Absent => false,
            Self::Once(value) => !matches(value.as_bytes()),
            Self::Repeated => true,
        }
    }

    /// Whether there is one value, and `matches` accepts it.
    pub(super) fn is_just(self, matches: impl Fn(&[u8]) -> bool) -> bool {
        matches!(self, Self::Once(value) if matches(value.as_bytes()))
    }
}

/// Without the spaces and tabs at both ends, which are rare.
#[inline]
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b'\t' | b' ', rest @ ..] | [rest @ .., b'\t' | b' '] = text {
        text = rest;
    }
    text
}

/// Looks for all `wanted` in one pass: a request has few headers, and their keys tell most of them apart, so this
/// costs less than to hash each name.
pub(super) fn find<'a, const N: usize>(headers: &'a HeaderMap, wanted: &[Wanted; N]) -> [Seen<'a>; N] {
    let mut found = [Seen::Absent; N];
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        let key = key(name);
        for (wanted, seen) in wanted.iter().zip(&mut found) {
            if wanted.key == key && wanted.name.as_str().as_bytes() == name {
                *seen = match seen {
                    Seen::Absent => Seen::Once(value),
                    Seen::Once(_) | Seen::Repeated => Seen::Repeated,
                };
            }
        }
    }
    found
}
