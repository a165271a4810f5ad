//! The parts of RFC 9110's header grammar that several headers share: lists, parameters, tokens, quoted strings.

use std::borrow::Cow;

use super::seen::trim;

/// The elements of a list, such as `a, b;q="1,2"`, without white space around them. Empty elements are left out.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(value, b',').filter(|element| !element.is_empty())
}

/// An element and its parameters, such as `a`, `q=1` and `x="y"` of `a; q=1; x="y"`.
pub(super) fn parameters(element: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(element, b';')
}

/// Splits at `separator` outside of quoted strings. A quoted string that does not end goes on to the end.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.iter().position(|&byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => return byte == separator && !is_quoted,
            }
            false
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(trim(&text[..end.unwrap_or(text.len())]))
    })
}

/// `name`, or `name=value` with a token or a quoted string, and white space around the equals sign. `None` where it
/// is neither. A name without a value has an empty one.
pub(super) fn pair(text: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>)> {
    let Some(equals) = text.iter().position(|&byte| byte == b'=') else {
        return is_token(text).then_some((text, Cow::Borrowed(b"".as_slice())));
    };
    let (name, value) = (trim(&text[..equals]), trim(&text[equals + 1..]));
    let value = match value {
        [b'"', rest @ ..] => Cow::Owned(unquote(rest)?),
        value => is_token(value).then_some(Cow::Borrowed(value))?,
    };
    is_token(name).then_some((name, value))
}

/// What is in a quoted string, of which the first quote is gone.
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return bytes.as_slice().is_empty().then_some(value),
            b'\\' => value.push(*bytes.next()?),
            byte => value.push(byte),
        }
    }
    None
}

pub(super) fn is_token(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        parts.map(|part| str::from_utf8(part).unwrap()).collect()
    }

    #[test]
    fn quoted_strings_are_not_split() {
        assert_eq!(texts(elements(b"a, b ;q=1,,\t, c")), ["a", "b ;q=1", "c"]);
        assert_eq!(texts(elements(br#"a="x,\",y", b"#)), [r#"a="x,\",y""#, "b"]);
        assert_eq!(texts(elements(br#"a="x, b"#)), [r#"a="x, b"#]);
        assert_eq!(texts(parameters(br#"a; q = 1;x=";";"#)), ["a", "q = 1", r#"x=";""#, ""]);
        assert_eq!(texts(elements(b"")), [""; 0]);
    }

    #[test]
    fn pairs_are_tokens_and_quoted_strings() {
        let pair = |text: &'static str| {
            let (name, value) = pair(text.as_bytes())?;
            Some((str::from_utf8(name).unwrap(), String::from_utf8(value.into_owned()).unwrap()))
        };
        for (text, name, value) in [
            ("a", "a", ""),
            ("a=b", "a", "b"),
            ("a \t= b", "a", "b"),
            (r#"a="""#, "a", ""),
            (r#"a="b c""#, "a", "b c"),
            (r#"a="b\"\\c""#, "a", r#"b"\c"#),
        ] {
            assert_eq!(pair(text), Some((name, value.to_owned())), "{text}");
        }
        for text in
            ["", "=", "=b", "a=", "a b", "a=b c", "a==b", r#"a=""#, r#"a="b"#, r#"a="b"c"#, r#"a="b\"#]
        {
            assert_eq!(pair(text), None, "{text}");
        }
    }
}
