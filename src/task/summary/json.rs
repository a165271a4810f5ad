//! Walks over JSON text that is known to be valid, and shows how its values begin.
//!
//! `serde_json` would read each string in full and turn numbers into what fits an `f64`.

use std::str::Chars;

use super::ELLIPSIS;
use super::shown::{Rule, Shown, start};
use crate::task::redact::{Arguments, MARK, is_secret_key};

/// A place in JSON text. On text that is not JSON it does not fail, but what it finds means nothing.
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
    pub(super) fn pair(&mut self, max: usize, rule: Rule<'_>) -> String {
        const VALUE: usize = 40;
        self.peek();
        let key = self.string();
        self.bite(b":");
        let value = self.value();
        let mut pair = Shown::of_text(unescape(key), max, rule).cut(max, max);
        pair.push('=');
        if is_secret(key) {
            pair.push_str(MARK);
        } else {
            pair.push_str(&shown_value(value, VALUE, rule).cut(VALUE, VALUE - ELLIPSIS.len()));
        }
        pair
    }

    /// Shows the value here as compact JSON, as far as there is room; the recursion ends with the room, as each
    /// level takes a character of it.
    fn show(&mut self, shown: &mut Shown<'_>) -> Option<()> {
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
                let mut arguments = Arguments::default();
                self.show_items(shown, '[', ']', |json, shown| {
                    if json.peek() != Some(b'"') {
                        return if arguments.hides_other() { json.hide(shown) } else { json.show(shown) };
                    }
                    let raw = json.string();
                    match arguments.shown_of(&start(unescape(raw)).0) {
                        None => shown.string(unescape(raw)),
                        Some(bytes) => {
                            // The bytes are ASCII.
                            let start: String = unescape(raw).take(bytes).collect();
                            shown.push('"')?;
                            shown.push_all(&start)?;
                            shown.push_all(MARK)?;
                            shown.push('"')
                        }
                    }
                })
            }
            _ => shown.push_all(self.word()),
        }
    }

    fn show_items(
        &mut self,
        shown: &mut Shown<'_>,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self, &mut Shown<'_>) -> Option<()>,
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

    fn hide(&mut self, shown: &mut Shown<'_>) -> Option<()> {
        self.value();
        shown.push('"')?;
        shown.push_all(MARK)?;
        shown.push('"')
    }
}

fn shown_value<'r>(raw: &str, max: usize, rule: Rule<'r>) -> Shown<'r> {
    let mut json = Json { rest: raw };
    if json.peek() == Some(b'"') {
        return Shown::of_text(unescape(json.string()), max, rule);
    }
    let mut shown = Shown::new(max, rule);
    let _ = json.show(&mut shown);
    shown
}

fn is_secret(raw_key: &str) -> bool {
    let (key, cut) = start(unescape(raw_key));
    cut || is_secret_key(&key)
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
