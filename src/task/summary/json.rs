//! A walk over JSON text that is known to be valid, to show how its values begin.
//!
//! `serde_json` would read each string in full and turn numbers into what fits an `f64`.

use std::str::Chars;

use super::shown::{Shown, start};
use super::{ELLIPSIS, keys, redact};

/// A place in JSON text. Never fails; on text that is not JSON it is just of no use.
#[derive(Debug)]
pub(super) struct Json<'a> {
    rest: &'a str,
}

impl<'a> Json<'a> {
    /// Right behind the opening bracket, if this is an object.
    pub(super) fn object(text: &'a str) -> Option<Self> {
        let mut json = Self { rest: text };
        json.bite(b"{").then_some(json)
    }

    /// The next byte that is not whitespace.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next()
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Takes the next byte if it is one of `bytes`.
    fn bite(&mut self, bytes: &[u8]) -> bool {
        let found = self.peek().is_some_and(|b| bytes.contains(&b));
        if found {
            self.take(1);
        }
        found
    }

    /// Steps to the next item of the open array or object; `false` at its end, which is then behind.
    pub(super) fn next_item(&mut self) -> bool {
        if self.bite(b"]}") {
            return false;
        }
        self.bite(b",");
        !self.rest.is_empty()
    }

    /// What is between the quotes of the string here, escapes and all.
    fn string(&mut self) -> &'a str {
        self.bite(b"\"");
        let mut escaped = false;
        let end = self.rest.bytes().position(|b| {
            let ends = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            ends
        });
        let raw = self.take(end.unwrap_or(self.rest.len()));
        self.bite(b"\"");
        raw
    }

    /// The number, `true`, `false` or `null` here.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']);
        self.take(end.unwrap_or(self.rest.len()))
    }

    /// The text of the value here.
    fn value(&mut self) -> &'a str {
        let next = self.peek();
        let from = self.rest;
        match next {
            Some(b'"') => _ = self.string(),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => _ = self.word(),
        }
        from.get(..from.len() - self.rest.len()).unwrap_or_default()
    }

    fn skip_nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(at) = self.rest.find(['"', '{', '[', '}', ']']) {
            self.take(at);
            match self.peek() {
                Some(b'"') => {
                    self.string();
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                _ => depth = depth.saturating_sub(1),
            }
            self.take(1);
            if depth == 0 {
                return;
            }
        }
    }

    /// The pair here as `key=value`, of which no more than the first `max` characters matter.
    pub(super) fn pair(&mut self, max: usize) -> String {
        const VALUE: usize = 40;
        self.peek();
        let key = self.string();
        self.bite(b":");
        let value = self.value();
        let mut pair = Shown::of_text(unescape(key), max).cut(max, max);
        pair.push('=');
        if is_secret(key) {
            pair.push_str(redact::MARK);
        } else {
            pair.push_str(&shown_value(value, VALUE).cut(VALUE, VALUE - ELLIPSIS.len()));
        }
        pair
    }

    /// Shows the value here as compact JSON, as far as there is room; the recursion ends with the room, as each
    /// level takes a character of it.
    fn show(&mut self, shown: &mut Shown) -> Option<()> {
        match self.peek()? {
            b'"' => shown.string(unescape(self.string())),
            b'{' => self.show_items(shown, '{', '}', |json, shown| {
                json.peek();
                let key = json.string();
                json.bite(b":");
                shown.string(unescape(key))?;
                shown.push(':')?;
                if is_secret(key) { json.hide(shown) } else { json.show(shown) }
            }),
            b'[' => {
                let mut after_flag = false;
                self.show_items(shown, '[', ']', |json, shown| {
                    let is_string = json.peek() == Some(b'"');
                    if std::mem::take(&mut after_flag) {
                        return json.hide(shown);
                    }
                    if is_string {
                        let raw = json.string();
                        after_flag = redact::is_secret_flag(&start(unescape(raw)).0);
                        return shown.string(unescape(raw));
                    }
                    json.show(shown)
                })
            }
            _ => shown.push_all(self.word()),
        }
    }

    fn show_items(
        &mut self,
        shown: &mut Shown,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self, &mut Shown) -> Option<()>,
    ) -> Option<()> {
        self.bite(b"[{");
        shown.push(open)?;
        let mut first = true;
        while self.next_item() {
            if !std::mem::take(&mut first) {
                shown.push(',')?;
            }
            item(self, shown)?;
        }
        shown.push(close)
    }

    fn hide(&mut self, shown: &mut Shown) -> Option<()> {
        self.value();
        shown.push('"')?;
        shown.push_all(redact::MARK)?;
        shown.push('"')
    }
}

fn shown_value(raw: &str, max: usize) -> Shown {
    let mut json = Json { rest: raw };
    if json.peek() == Some(b'"') {
        return Shown::of_text(unescape(json.string()), max);
    }
    let mut shown = Shown::new(max);
    let _ = json.show(&mut shown);
    shown
}

fn is_secret(raw_key: &str) -> bool {
    let (key, cut) = start(unescape(raw_key));
    cut || keys::is_secret(&key)
}

/// The characters of a JSON string; half a surrogate pair is U+FFFD.
fn unescape(raw: &str) -> impl Iterator<Item = char> {
    let mut chars = raw.chars();
    std::iter::from_fn(move || {
        let c = chars.next()?;
        if c != '\\' {
            return Some(c);
        }
        Some(match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => code_point(&mut chars),
            c => c,
        })
    })
}

/// The one or two `uXXXX` of a character, the first of them right behind its `u`.
fn code_point(chars: &mut Chars<'_>) -> char {
    let first = hex(chars);
    let mut ahead = chars.clone();
    let second = (ahead.next() == Some('\\') && ahead.next() == Some('u')).then(|| hex(&mut ahead));
    if let Some(Ok(c)) = char::decode_utf16([first]).next() {
        return c;
    }
    match second.map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(c))) => {
            *chars = ahead;
            c
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

fn hex(chars: &mut Chars<'_>) -> u16 {
    let digits = chars.by_ref().take(4).map(|c| c.to_digit(16).unwrap_or(0));
    digits.fold(0, |value, digit| value << 4 | digit as u16)
}
