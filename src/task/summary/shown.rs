//! The beginnings of texts, as a summary shows them.

use std::borrow::Cow;
use std::fmt;

use super::ELLIPSIS;
use crate::task::line::breaks_line;

/// What of a text is looked at for secrets. More than any summary shows, so that enough is left of a text that begins
/// with a long secret.
const WINDOW: usize = 1024;

/// What removes secrets from a text; the flag says whether the text goes on behind what the rule sees.
pub(super) type Rule<'r> = &'r dyn for<'t> Fn(&'t str, bool) -> Cow<'t, str>;

/// The beginning of a text on one line, with no more kept than it takes to know whether it is too long.
pub(super) struct Shown<'r> {
    text: String,
    room: usize,
    more: bool,
    rule: Rule<'r>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("text", &self.text).field("more", &self.more).finish_non_exhaustive()
    }
}

impl<'r> Shown<'r> {
    /// For up to `max` characters.
    pub(super) fn new(max: usize, rule: Rule<'r>) -> Self {
        Self { text: String::new(), room: max, more: false, rule }
    }

    /// A text without its secrets.
    pub(super) fn of_text(text: impl Iterator<Item = char>, max: usize, rule: Rule<'r>) -> Self {
        let mut shown = Self::new(max, rule);
        let _ = shown.redacted(text, Self::push);
        shown
    }

    /// `None` when it does not fit: the caller can stop.
    pub(super) fn push(&mut self, c: char) -> Option<()> {
        let Some(room) = self.room.checked_sub(1) else {
            self.more = true;
            return None;
        };
        self.room = room;
        self.text.push(if breaks_line(c) { ' ' } else { c });
        Some(())
    }

    pub(super) fn push_all(&mut self, text: &str) -> Option<()> {
        text.chars().try_for_each(|c| self.push(c))
    }

    fn redacted(
        &mut self,
        text: impl Iterator<Item = char>,
        push: impl Fn(&mut Self, char) -> Option<()>,
    ) -> Option<()> {
        let (window, cut) = start(text);
        let redacted = (self.rule)(&window, cut);
        redacted.chars().try_for_each(|c| push(self, c))?;
        self.more |= cut;
        (!cut).then_some(())
    }

    fn push_escaped(&mut self, c: char) -> Option<()> {
        match c {
            '"' | '\\' => self.push('\\').and_then(|()| self.push(c)),
            '\n' => self.push_all("\\n"),
            '\r' => self.push_all("\\r"),
            '\t' => self.push_all("\\t"),
            '\0'..' ' => self.push_all(&format!("\\u{:04x}", u32::from(c))),
            c => self.push(c),
        }
    }

    /// A JSON string, without its secrets.
    pub(super) fn string(&mut self, text: impl Iterator<Item = char>) -> Option<()> {
        self.push('"')?;
        self.redacted(text, Self::push_escaped)?;
        self.push('"')
    }

    /// The text if it has at most `whole` characters, else the first `kept` and `...`.
    pub(super) fn cut(mut self, whole: usize, kept: usize) -> String {
        if self.more || self.text.chars().nth(whole).is_some() {
            if let Some((end, _)) = self.text.char_indices().nth(kept) {
                self.text.truncate(end);
            }
            self.text.push_str(ELLIPSIS);
        }
        self.text
    }
}

/// The part that is looked at for secrets, and whether there is more.
pub(super) fn start(mut text: impl Iterator<Item = char>) -> (String, bool) {
    let window = text.by_ref().take(WINDOW).collect();
    (window, text.next().is_some())
}
