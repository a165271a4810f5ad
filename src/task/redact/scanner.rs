//! One pass over a text that finds the secrets in it.

mod extent;

use std::borrow::Cow;
use std::ops::Range;

use super::options::{Command, Meaning};
use super::quote::{QUOTES, Quote, Unclosed};
use super::{MARK, keys, tokens};

/// The fewest characters after `Bearer` that are a token and not the next word of a sentence.
const BEARER_TOKEN: usize = 16;

/// The longest name of a host, and a port. What is longer before the path of a URL holds something else.
const MAX_HOST: usize = 253 + 6;

pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// What separates two commands.
fn ends_command(c: char) -> bool {
    matches!(c, '\n' | ';' | '|' | '&')
}

/// Whether a shell goes on with the same command in the next line: `c` is a line break behind a backslash.
fn continues(before: &str, c: char) -> bool {
    c == '\n' && before.strip_suffix('\r').unwrap_or(before).ends_with('\\')
}

/// Passes over a text once. It keeps the result of each search that looks further ahead than the scanner moves, so that it
/// does not repeat the search.
pub(super) struct Scanner<'a> {
    text: &'a str,
    cut: bool,
    /// Where the command begins that the scanner is in.
    command_start: usize,
    /// Where that command ends, once it was looked at, and what it is.
    command: Option<(usize, Command)>,
    unclosed: Unclosed,
    /// The end of the arguments that were looked at and are no secrets.
    argument_end: usize,
    /// The end of the URL that was looked at last, and the last `@` in it.
    url: Option<(usize, Option<usize>)>,
    /// How many bytes were looked at.
    #[cfg(test)]
    pub(super) looked: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, cut: bool) -> Self {
        Self {
            text,
            cut,
            command_start: 0,
            command: None,
            unclosed: Unclosed::default(),
            argument_end: 0,
            url: None,
            #[cfg(test)]
            looked: 0,
        }
    }

    pub(super) fn run(mut self) -> Cow<'a, str> {
        self.scan()
    }

    pub(super) fn scan(&mut self) -> Cow<'a, str> {
        let mut shown = String::new();
        let (mut at, mut done) = (0, 0);
        while let Some(c) = self.from(at).chars().next() {
            let word = self.word(at);
            let secret = if self.from(at).starts_with("://") {
                self.user_info(at + 3)
            } else if word.is_empty() {
                None
            } else {
                self.secret_at(at, word)
            };
            match secret.filter(|secret| !secret.is_empty()) {
                Some(secret) => {
                    shown.push_str(self.text.get(done..secret.start).unwrap_or_default());
                    shown.push_str(MARK);
                    (at, done) = (secret.end, secret.end);
                }
                None => at += word.len().max(c.len_utf8()),
            }
            let before = self.text.get(..at - c.len_utf8()).unwrap_or_default();
            if word.is_empty() && ends_command(c) && !continues(before, c) {
                self.command_start = at;
                self.command = None;
            }
        }
        if done == 0 {
            return Cow::Borrowed(self.text);
        }
        shown.push_str(self.from(done));
        Cow::Owned(shown)
    }

    fn from(&self, at: usize) -> &'a str {
        self.text.get(at..).unwrap_or_default()
    }

    /// The length of the start of `text` that has none of `end` in it.
    fn len_until(&mut self, text: &str, end: impl Fn(char) -> bool) -> usize {
        let len = text.find(end).unwrap_or(text.len());
        self.look(len);
        len
    }

    #[cfg(not(test))]
    const fn look(&mut self, _: usize) {}

    #[cfg(test)]
    const fn look(&mut self, bytes: usize) {
        self.looked += bytes + 1;
    }

    fn word(&mut self, at: usize) -> &'a str {
        let rest = self.from(at);
        let len = self.len_until(rest, |c| !in_word(c));
        rest.get(..len).unwrap_or_default()
    }

    /// The secret that the word names, introduces, or holds.
    fn secret_at(&mut self, at: usize, word: &'a str) -> Option<Range<usize>> {
        self.value_of_option(at, word).or_else(|| self.value_of_key(at, word)).or_else(|| {
            self.look(word.len());
            let (start, len) = tokens::find(word)?;
            Some(at + start..at + start + len)
        })
    }

    /// The secret behind a secret key.
    fn value_of_key(&mut self, at: usize, word: &'a str) -> Option<Range<usize>> {
        let tail = self.from(at + word.len());
        let closed = self.len_until(tail, |c| !matches!(c, '\\' | '"' | '\'' | '`' | ']' | ')'));
        let (closing, after) = tail.split_at_checked(closed)?;
        let outer = if closing.contains(QUOTES) { None } else { Quote::at_end_of(self.text.get(..at)?) };
        let gap = self.len_until(after, |c| !c.is_whitespace());
        let sign = after.get(gap..)?;
        if sign.starts_with([':', '=']) {
            let in_query = || self.text.get(..at).is_some_and(|before| before.ends_with(['?', '&']));
            if sign.starts_with("://") || !(keys::is_secret(word) || (keys::is_signature(word) && in_query()))
            {
                return None;
            }
            let len = self.len_until(sign, |c| !matches!(c, ':' | '=' | '>'));
            let behind = sign.get(len..)?;
            let gap = self.len_until(behind, |c| !c.is_whitespace());
            let value = behind.get(gap..)?;
            let lower = word.to_ascii_lowercase();
            let header = ["authori", "cookie"].iter().any(|name| lower.contains(name));
            let to_end = sign.starts_with(':') || gap > 0 || header;
            let secret = self.value(value, outer, to_end);
            return Some(if header { self.with_next_line(secret) } else { secret });
        }
        if word.starts_with('-') && keys::is_secret(word) {
            let value = self.next_argument(after)?;
            return Some(self.value(value, outer, false));
        }
        if word.eq_ignore_ascii_case("bearer") {
            let gap = self.len_until(tail, |c| !c.is_whitespace());
            let token = tail.get(gap..)?;
            let len = self.len_until(token, |c| !c.is_ascii_alphanumeric() && !"-._~+/=".contains(c));
            let unfinished = self.cut && len == token.len();
            let start = self.text.len() - token.len();
            return (gap > 0 && (len >= BEARER_TOKEN || unfinished)).then(|| start..start + len);
        }
        None
    }

    /// The secret of an option that is recognised by the command that it is in.
    fn value_of_option(&mut self, at: usize, word: &'a str) -> Option<Range<usize>> {
        if !word.starts_with('-') {
            return None;
        }
        let tail = self.from(at + word.len());
        let before = self.text.get(..at)?;
        let outer = Quote::at_end_of(before);
        let quoted = tail.starts_with(QUOTES);
        if let Some((start, meaning)) = self.command().rest_of(word)
            && (word.len() > start || (quoted && outer.is_none()))
        {
            return self.argument(self.from(at + start), outer, meaning);
        }
        let outer = outer.filter(|_| !quoted);
        let meaning = self.command().next(word)?;
        let value = match tail.strip_prefix('=') {
            Some(value) => value,
            None => {
                let closed = self.len_until(tail, |c| !matches!(c, '\\' | '"' | '\'' | '`'));
                self.next_argument(tail.get(closed..)?)?
            }
        };
        if value.starts_with('-') { None } else { self.argument(value, outer, meaning) }
    }

    /// The argument that `value`, a rest of the text, begins with, if it is a secret. An argument that is none is gone
    /// over once more, for what is in it; options in there are looked at up to the next white space or quote only.
    fn argument(&mut self, value: &str, outer: Option<Quote>, meaning: Meaning) -> Option<Range<usize>> {
        let start = self.text.len() - value.len();
        let len = match outer {
            _ if value.starts_with(MARK) => MARK.len(),
            _ if start < self.argument_end => {
                self.len_until(value, |c| c.is_whitespace() || QUOTES.contains(&c))
            }
            Some(outer) => self.close(outer, value).map_or(value.len(), |(inside, _)| inside),
            None => self.value_len(value, None, false),
        };
        self.look(len);
        let content = value.get(..len)?.trim_matches(|c| c == '\\' || QUOTES.contains(&c));
        let hides = meaning.hides(content);
        if !hides {
            self.argument_end = self.argument_end.max(start + len);
        }
        hides.then_some(start..start + len)
    }

    /// The command that the scanner is in.
    fn command(&mut self) -> &Command {
        if self.command.is_none() {
            let rest = self.from(self.command_start);
            let mut len = 0;
            while let Some(line) = rest.get(len..) {
                len += self.len_until(line, ends_command);
                let (before, behind) = rest.split_at_checked(len).unwrap_or((rest, ""));
                match behind.chars().next() {
                    Some(c) if continues(before, c) => len += c.len_utf8(),
                    _ => break,
                }
            }
            let mut command = Command::default();
            let parts = |c: char| c.is_whitespace() || QUOTES.contains(&c) || ",=()[]{}<>\\".contains(c);
            for arg in rest.get(..len).unwrap_or_default().split(parts).filter(|arg| !arg.is_empty()) {
                command.add(arg);
            }
            self.command = Some((self.command_start + len, command));
        }
        &self.command.get_or_insert_default().1
    }

    /// What is before the `@` of a URL's host. `at` is behind the scheme.
    fn user_info(&mut self, at: usize) -> Option<Range<usize>> {
        let url = self.from(at);
        let (end, last_at) = match self.url.filter(|(end, _)| at <= *end) {
            Some(known) => known,
            None => {
                let len = self.len_until(url, |c| c.is_whitespace() || "\"<>`".contains(c));
                let last_at = url.get(..len).and_then(|span| span.rfind('@')).map(|found| at + found);
                *self.url.insert((at + len, last_at))
            }
        };
        let span = self.text.get(at..end)?;
        let host_len = self.len_until(span, |c| matches!(c, '/' | '?' | '#' | '\\'));
        let host = span.get(..host_len)?;
        if let Some(found) = host.rfind('@') {
            return Some(at..at + found);
        }
        if (self.cut && host.len() == url.len()) || host.len() > MAX_HOST {
            return Some(at..at + host.len());
        }
        // A password may have an unescaped slash in it; a port has none.
        let has_port = host.split_once(':').is_none_or(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
        let slashed = last_at.filter(|found| *found >= at && !has_port && !host.starts_with('['));
        slashed.map(|found| at..found)
    }
}
