use http::{HeaderMap, HeaderName, HeaderValue};

use super::caller::usable;

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
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            // HTTP/1 parsers trim, HTTP/2 ones do not; the REST view reads its header the same way.
            Self::Once(value) => {
                usable(std::str::from_utf8(value.as_bytes()).ok()?.trim_matches([' ', '\t']))
            }
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

/// Looks for all `names` in one pass: a request has few headers, and the names of most of them are told apart by a
/// number, so this costs less than to hash each name.
pub(super) fn find<'a, const N: usize>(headers: &'a HeaderMap, names: &[HeaderName; N]) -> [Seen<'a>; N] {
    let mut found = [Seen::Absent; N];
    for (name, value) in headers {
        for (wanted, seen) in names.iter().zip(&mut found) {
            if wanted == name {
                *seen = match seen {
                    Seen::Absent => Seen::Once(value),
                    Seen::Once(_) | Seen::Repeated => Seen::Repeated,
                };
            }
        }
    }
    found
}
