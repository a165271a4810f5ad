//! How far a secret extends.

use std::ops::Range;

use super::super::MARK;
use super::super::quote::Quote;
use super::Scanner;

impl<'a> Scanner<'a> {
    /// The value of a header that is no more than a scheme such as `Bearer` at the end of a line: the credentials are in the
    /// next line then.
    pub(super) fn with_next_line(&mut self, value: Range<usize>) -> Range<usize> {
        const SCHEMES: [&str; 5] = ["bearer", "basic", "token", "digest", "negotiate"];
        let scheme = self.text.get(value.clone()).unwrap_or_default().trim();
        if !SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return value;
        }
        let behind = self.from(value.end);
        let gap = self.len_until(behind, |c| !c.is_whitespace());
        let next = behind.get(gap..).unwrap_or_default();
        let len = self.len_until(next, |c| c == '\n' || c == '\r');
        value.start..value.end + if len > 0 { gap + len } else { 0 }
    }

    /// The argument behind a separator, if there is one. A backslash at the end of a line separates too: a shell goes on with
    /// the next line.
    pub(super) fn next_argument(&mut self, after: &'a str) -> Option<&'a str> {
        let mut gap = 0;
        while let Some(rest) = after.get(gap..) {
            let len = self.len_until(rest, |c| c != ',' && !c.is_whitespace());
            let behind = rest.get(len..).unwrap_or_default();
            let continued = ["\\\n", "\\\r\n"].into_iter().find(|end| behind.starts_with(end));
            gap += len + continued.map_or(0, str::len);
            if continued.is_none() {
                break;
            }
        }
        after.get(gap..).filter(|_| gap > 0)
    }

    /// The secret value that `value`, a rest of the text, begins with.
    pub(super) fn value(&mut self, value: &str, outer: Option<Quote>, to_end: bool) -> Range<usize> {
        let start = self.text.len() - value.len();
        let len = if value.starts_with(MARK) { MARK.len() } else { self.value_len(value, outer, to_end) };
        start..start + len
    }

    pub(super) fn close(&mut self, quote: Quote, text: &str) -> Option<(usize, usize)> {
        if self.unclosed.contains(quote) {
            return None;
        }
        let closed = quote.close(text);
        self.look(closed.map_or(text.len(), |(_, behind)| behind));
        if closed.is_none() {
            self.unclosed.add(quote);
        }
        closed
    }

    pub(super) fn value_len(&mut self, value: &str, outer: Option<Quote>, to_end: bool) -> usize {
        if let Some(outer) = outer {
            let (inside, behind) = self.close(outer, value).unwrap_or((value.len(), value.len()));
            let ended = value.get(behind..).is_none_or(|rest| rest.is_empty() || ends_quoted(rest));
            return if ended { inside } else { value.len() };
        }
        let quoted = Quote::at_start_of(value).is_some();
        if to_end && !quoted {
            // What begins like this goes on in the next line.
            let opens = value.starts_with(['[', '{', '(', '<', '|', '>', '-']);
            return if opens { value.len() } else { self.len_until(value, |c| c == '\n' || c == '\r') };
        }
        let mut at = 0;
        while let Some(rest) = value.get(at..) {
            if let Some((quote, len)) = Quote::at_start_of(rest) {
                let inside = rest.get(len..).unwrap_or_default();
                if let Some((_, behind)) = self.close(quote, inside) {
                    at += len + behind;
                    // `'it'"'"'s'` is one word in a shell, `"it","is"` are two words anywhere.
                    if quoted && value.get(at..).is_some_and(ends_quoted) {
                        return at;
                    }
                    continue;
                }
                if at == 0 {
                    return value.len();
                }
                at += len;
                continue;
            }
            let slashes = self.len_until(rest, |c| c != '\\');
            let mut chars = rest.get(slashes..).unwrap_or_default().chars();
            match chars.next() {
                None => return value.len(),
                // Behind an odd number of backslashes it is a part of the value.
                Some(c) if c.is_whitespace() && slashes.is_multiple_of(2) => return at + slashes,
                Some(_) => at = value.len() - chars.as_str().len(),
            }
        }
        value.len()
    }
}

/// Whether nothing that follows a closing quote belongs to what was quoted.
fn ends_quoted(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_whitespace() || ",;:&|)}]>\\".contains(c))
}
