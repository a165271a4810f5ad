//! Texts that are cut to a length and put on one line.

use std::borrow::Cow;
use std::fmt;

use super::redact::redact;

/// Whether `c` would break a line of text in two, end it, or change the order in which it is displayed.
pub(super) fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Puts `text` on one line and cuts it to `max_chars` characters, the last three of which are then `...`.
///
/// The answer borrows a text that needs no change.
pub(crate) fn one_line(text: &str, max_chars: usize) -> Cow<'_, str> {
    let fits = text.len() <= max_chars || text.chars().nth(max_chars).is_none();
    let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if fits && (is_plain(text) || !text.contains(breaks_line)) {
        return Cow::Borrowed(text);
    }
    let clean = |c: char| if breaks_line(c) { ' ' } else { c };
    if fits {
        return text.chars().map(clean).collect::<String>().into();
    }
    let mut line: String = text.chars().take(max_chars.saturating_sub(3)).map(clean).collect();
    line.push_str("...");
    line.into()
}

/// The form in which a text from outside goes to the log: at most 512 characters on one line, without secrets. For example,
/// the error of a parser may quote its input, and the message of a panic may quote a request.
pub(crate) fn logged(text: impl fmt::Display) -> String {
    const MAX: usize = 512;
    let (text, _) = rendered(text, MAX + 1);
    one_line(&redact(&text), MAX).into_owned()
}

/// Renders the first `max_chars` characters, and returns whether there are more. So an error that prints a gigabyte does not
/// take a gigabyte of memory.
pub(crate) fn rendered(text: impl fmt::Display, max_chars: usize) -> (String, bool) {
    struct Cut {
        text: String,
        left: usize,
        more: bool,
    }
    impl fmt::Write for Cut {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            for c in part.chars() {
                let Some(left) = self.left.checked_sub(1) else {
                    self.more = true;
                    return Err(fmt::Error);
                };
                self.left = left;
                self.text.push(c);
            }
            Ok(())
        }
    }
    let mut cut = Cut { text: String::new(), left: max_chars, more: false };
    // An error is the end that `Cut` makes, or one of the `Display` itself; what it wrote before is kept.
    let _ = fmt::write(&mut cut, format_args!("{text}"));
    (cut.text, cut.more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_in_its_order() {
        assert_eq!(one_line("a\nb\u{7f}c\u{9b}d\u{2028}e\u{202e}f\u{2066}g", 20), "a b c d e f g");
        assert_eq!(one_line("a\nbcdef", 5), "a ...");
        assert!(matches!(one_line("שלום é ~", 20), Cow::Borrowed(_)));
    }

    #[test]
    fn a_logged_text_is_one_short_line() {
        assert_eq!(logged("a\n\u{1b}[31mpassword=x"), "a  [31mpassword=[redacted]");
        let long = logged("x".repeat(1 << 20));
        assert!(long.len() == 512 && long.ends_with("x..."));
    }
}
