//! Texts on one line.

use std::borrow::Cow;

/// `text` on one line and cut to `max_chars` characters, the last three of which are then `...`.
///
/// Borrowed when nothing had to change.
pub(crate) fn one_line(text: &str, max_chars: usize) -> Cow<'_, str> {
    let fits = text.len() <= max_chars || text.chars().nth(max_chars).is_none();
    if fits && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if fits {
        return text.chars().map(clean).collect::<String>().into();
    }
    let mut line: String = text.chars().take(max_chars.saturating_sub(3)).map(clean).collect();
    line.push_str("...");
    line.into()
}
