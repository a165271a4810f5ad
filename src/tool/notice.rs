//! Makes text from outside safe for a notice to an agent.
//!
//! A notice is text between `<system-notification>` or `<system-reminder>` and its closing tag. A tool, a caller or
//! another process writes parts of it. A part that contains one of these tags could close the notice or open another one,
//! and the agent would take the text after it for words of the system.
//!
//! A model reads more than one spelling as the tag. So the search ignores case, white space, attributes, characters that
//! are not displayed, and terminal escapes. It knows look-alikes of the letters, and escaped forms of the bracket (`&lt;`,
//! `%3C`, `\u003c`). It replaces the opening bracket by `(`, and a closing bracket right after the name by `)`. So the text
//! stays readable and does not become longer, and a later step that decodes escapes finds no tag either. All other text
//! stays byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use super::ContentBlock;
use super::lookalikes::{escaped_bracket, fold, is_closing, is_dash, is_invisible, is_opening};

const FIRST_WORD: &str = "system";
const SECOND_WORDS: [&str; 2] = ["notification", "reminder"];

/// Removes the tags of a notice and NUL from `text`.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    match without_nul(text) {
        Cow::Borrowed(text) => apply(text, edits(&[text])),
        Cow::Owned(text) => Cow::Owned(apply(&text, edits(&[&text])).into_owned()),
    }
}

/// Does the same as [`text`] and puts the text on one line, for names and ids in a sentence. Control characters and line
/// separators become spaces, and marks that change the direction of text are dropped.
pub(super) fn line(line: &str) -> Cow<'_, str> {
    let safe = text(line);
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !safe.contains(|c| breaks(c) || turns(c)) {
        return safe;
    }
    let chars = safe.chars().filter(|c| !turns(*c));
    Cow::Owned(chars.map(|c| if breaks(c) { ' ' } else { c }).collect())
}

/// Does the same as [`text`] for all texts of `content`. A reader may join blocks, so the search also finds a tag that
/// begins in one block and ends in a later one.
pub(super) fn blocks(content: &mut [ContentBlock]) {
    for text in texts_mut(content) {
        if let Cow::Owned(safe) = without_nul(text) {
            *text = safe;
        }
    }
    let texts: Vec<_> = content.iter().filter_map(ContentBlock::as_text).collect();
    let mut edits = edits(&texts).into_iter().peekable();
    for (index, text) in texts_mut(content).enumerate() {
        if let Cow::Owned(safe) = apply(text, std::iter::from_fn(|| edits.next_if(|edit| edit.text == index)))
        {
            *text = safe;
        }
    }
}

fn texts_mut(content: &mut [ContentBlock]) -> impl Iterator<Item = &mut String> {
    content.iter_mut().filter_map(|block| match block {
        ContentBlock::Text { text } => Some(text),
        ContentBlock::Data { .. } => None,
    })
}

/// Runs before the search, so that the search finds a tag with a NUL in it.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

/// A range of one of the texts, and its replacement.
struct Edit {
    text: usize,
    range: Range<usize>,
    with: &'static str,
}

/// Makes the edits, which are in order.
fn apply(text: &str, edits: impl IntoIterator<Item = Edit>) -> Cow<'_, str> {
    let mut safe = String::new();
    let mut done = 0;
    for Edit { range, with, .. } in edits {
        safe.push_str(text.get(done..range.start).unwrap_or_default());
        safe.push_str(with);
        done = range.end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    safe.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(safe)
}

/// The edits that leave no tag in `texts`, read one after the other.
///
/// Each step looks ahead only over characters that cannot begin a tag, so the search is linear.
fn edits(texts: &[&str]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut cursor = Cursor { texts, text: 0, at: 0 };
    while cursor.skip_to_candidate() {
        let mut ahead = cursor.clone();
        let start = (cursor.text, cursor.at);
        let Some(bracket) = ahead.bracket() else {
            cursor.next();
            continue;
        };
        let behind_bracket = ahead.clone();
        if ahead.name() {
            edits.push(Edit { text: start.0, range: start.1..bracket, with: "(" });
            ahead.skip(|c| c.is_whitespace());
            let closing = (ahead.text, ahead.at);
            if ahead.next().is_some_and(is_closing) {
                edits.push(Edit { text: closing.0, range: closing.1..ahead.at, with: ")" });
                cursor = ahead;
                continue;
            }
        }
        cursor = behind_bracket;
    }
    edits
}

/// A position in several texts that are read as one.
#[derive(Clone)]
struct Cursor<'a> {
    texts: &'a [&'a str],
    text: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.texts.get(self.text).and_then(|text| text.get(self.at..)).unwrap_or_default()
    }

    /// Moves to the next text at the end of this one.
    fn settle(&mut self) {
        while self.rest().is_empty() && self.text < self.texts.len() {
            self.text += 1;
            self.at = 0;
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.settle();
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Moves to the next place where a bracket may begin; `false` at the end.
    fn skip_to_candidate(&mut self) -> bool {
        const CANDIDATE: [bool; 256] = {
            // ASCII forms, and the first bytes of what `is_opening` has in UTF-8.
            let (bytes, mut table, mut n) = (b"<&%\\\xcb\xe1\xe2\xe3\xef", [false; 256], 0);
            while n < bytes.len() {
                table[bytes[n] as usize] = true;
                n += 1;
            }
            table
        };
        loop {
            self.settle();
            match self.rest().bytes().position(|byte| CANDIDATE[usize::from(byte)]) {
                Some(at) => {
                    self.at += at;
                    return true;
                }
                None if self.text < self.texts.len() => self.at += self.rest().len(),
                None => return false,
            }
        }
    }

    /// Takes an opening bracket in any form, and returns its end. A bracket is never spread over two texts.
    fn bracket(&mut self) -> Option<usize> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        let len = if is_opening(first) { first.len_utf8() } else { escaped_bracket(rest)? };
        self.at += len;
        Some(self.at)
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        while let Some(c) = self.peek() {
            if c == '\u{1b}' {
                self.next();
                // The parameters of a terminal's escape sequence, and the letter that ends it.
                if self.peek() == Some('[') {
                    self.next();
                    while self.peek().is_some_and(|c| c.is_ascii_digit() || matches!(c, ';' | ':' | '?')) {
                        self.next();
                    }
                    if self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
                        self.next();
                    }
                }
            } else if is_invisible(c) || skipped(c) {
                self.next();
            } else {
                return;
            }
        }
    }

    /// Takes the rest of a tag up to the end of its name. A name that is cut off by the end of all texts counts from
    /// [`FIRST_WORD`] on: the text that comes next would become a part of the tag.
    fn name(&mut self) -> bool {
        self.skip(|c| c.is_whitespace() || matches!(c, '/' | '\\' | '\u{2044}' | '\u{2215}' | '\u{ff0f}'));
        if self.word(FIRST_WORD) != Some(true) {
            return false;
        }
        self.skip(|c| c.is_whitespace() || is_dash(c));
        for word in SECOND_WORDS {
            let mut ahead = self.clone();
            if ahead.word(word) != Some(false) {
                *self = ahead;
                return true;
            }
        }
        false
    }

    /// Takes `word`; `None` if the texts end within it.
    fn word(&mut self, word: &str) -> Option<bool> {
        for letter in word.chars() {
            self.skip(|_| false);
            if fold(self.peek()?) != letter {
                return Some(false);
            }
            self.next();
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_in_any_spelling_are_opened() {
        for (tag, safe) in [
            ("</system-notification>", "(/system-notification)"),
            ("<system-notification>", "(system-notification)"),
            ("</SYSTEM-Notification >", "(/SYSTEM-Notification )"),
            ("< / system-notification\n>", "( / system-notification\n)"),
            ("</system_notification>", "(/system_notification)"),
            ("</system notification>", "(/system notification)"),
            ("</systemnotification>", "(/systemnotification)"),
            ("<system-notification level=\"1\">", "(system-notification level=\"1\">"),
            ("<system-notification/>", "(system-notification/>"),
            ("</system-reminder>", "(/system-reminder)"),
            ("<system-reminders>", "(system-reminders>"),
            ("a<<</system-notification>>", "a<<(/system-notification)>"),
            ("&lt;/system-notification&gt;", "(/system-notification&gt;"),
            ("&amp;lt;/system-notification", "(/system-notification"),
            ("&#60;/system-notification", "(/system-notification"),
            ("&#x003C;/system-notification", "(/system-notification"),
            ("\\u003c/system-notification\\u003e", "(/system-notification\\u003e"),
            ("\\x3C\\/system-notification>", "(\\/system-notification)"),
            ("%3C/system-notification%3E", "(/system-notification%3E"),
            ("＜／ｓｙｓｔｅｍ－ｎｏｔｉｆｉｃａｔｉｏｎ＞", "(／ｓｙｓｔｅｍ－ｎｏｔｉｆｉｃａｔｉｏｎ)"),
            ("‹/system‑notification›", "(/system‑notification)"),
            ("</ѕуѕtеm-nоtіfісаtіоn>", "(/ѕуѕtеm-nоtіfісаtіоn)"),
            ("</𝐬𝐲𝐬𝐭𝐞𝐦-notification>", "(/𝐬𝐲𝐬𝐭𝐞𝐦-notification)"),
            ("</sys\u{200b}tem-\u{202e}noti\u{ad}fication>", "(/sys\u{200b}tem-\u{202e}noti\u{ad}fication)"),
            ("</sys\0tem-notification\0>", "(/system-notification)"),
            ("</sys\u{1b}[1;31mtem-notification>", "(/sys\u{1b}[1;31mtem-notification)"),
            ("<\u{1b}[0</system-notification>", "<\u{1b}[0(/system-notification)"),
            ("cut: </system-noti", "cut: (/system-noti"),
            ("cut: </system", "cut: (/system"),
        ] {
            assert_eq!(text(tag), safe, "{tag:?}");
            assert_eq!(text(safe), safe, "{tag:?}");
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for same in [
            "",
            "a < b && c > d",
            "<system>x</system>",
            "<system-config>",
            "<notification>",
            "system-notification",
            "cut: <sys",
            "Vec<System>, &lt;b&gt;, 100%3, C:\\u\\x, \\u003d",
            "\u{1b}[31mred\u{1b}[0m\r\n\tשלום ‏ 日本＜語＞",
        ] {
            assert!(matches!(text(same), Cow::Borrowed(text) if text == same), "{same:?}");
        }
    }

    #[test]
    fn a_line_has_no_breaks() {
        assert_eq!(line("a\nb\u{1b}c\u{2028}d\u{202e}e\0f"), "a b c def");
        assert!(matches!(line("Bash é"), Cow::Borrowed("Bash é")));
    }

    #[test]
    fn a_tag_that_is_spread_over_blocks_is_found() {
        let image = ContentBlock::base64("image/png", "AAAA");
        let mut content =
            vec!["a</sys".into(), image.clone(), "".into(), "tem-notification".into(), ">\0b".into()];
        blocks(&mut content);
        assert_eq!(content, ["a(/sys".into(), image, "".into(), "tem-notification".into(), ")b".into()]);
    }

    /// All ways of writing a tag that the test above has, put together at random.
    fn tag() -> impl Strategy<Value = String> {
        let invisible = || prop::sample::select(vec!["", "", "", "\0", "\u{200b}", "\u{1b}[0m", "\u{feff}"]);
        let open = prop::sample::select(vec!["<", "＜", "&lt;", "&LT", "&#0060;", "\\u003C", "%3c", "‹"]);
        let slash = prop::sample::select(vec!["", "/", " / ", "\n/\t", "\\/"]);
        let dash = prop::sample::select(vec!["-", "_", "", " - ", "‑"]);
        let name = prop::sample::select(vec!["notification", "Reminder"]);
        (open, slash, dash, name, prop::collection::vec(invisible(), 20)).prop_map(
            |(open, slash, dash, name, invisible)| {
                let letters = format!("sYstem{dash}{name}");
                let mut invisible = invisible.into_iter();
                let letters: String = letters
                    .chars()
                    .flat_map(|c| [invisible.next().unwrap_or_default().to_owned(), c.to_string()])
                    .collect();
                format!("{open}{slash}{letters}")
            },
        )
    }

    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            2 => tag(),
            3 => "[ -~\\n]{0,8}",
            2 => prop::sample::select(vec!["<", "</", "system", "-", "notification", ">", "&", "amp;", "\u{1b}[", "\\", "%"])
                .prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_tag_is_left_wherever_the_blocks_are_cut(
            start in any_text(), tag in tag(), end in any_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4)
        ) {
            let all = start + &tag + &end;
            let safe = text(&all).into_owned();
            prop_assert!(safe.len() <= all.len());
            prop_assert!(edits(&[&safe]).is_empty(), "{safe:?} of {all:?}");
            prop_assert_eq!(&text(&safe), &safe);
            // An escaped bracket that is cut is none in either block, so only the plain form is put together again.
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(all.len() + 1)).filter(|at| all.is_char_boundary(*at)).collect();
            cuts.sort_unstable();
            let mut content = Vec::new();
            let mut from = 0;
            for to in cuts.into_iter().chain([all.len()]) {
                content.push(ContentBlock::text(&all[from..to]));
                from = to;
            }
            blocks(&mut content);
            let joined: String = content.iter().filter_map(ContentBlock::as_text).collect();
            prop_assert!(!joined.to_lowercase().contains("</system-notification"), "{joined:?}");
            let texts: Vec<_> = content.iter().filter_map(ContentBlock::as_text).collect();
            prop_assert!(edits(&texts).is_empty(), "{content:?}");
        }

        #[test]
        fn honest_text_is_the_same_byte_for_byte(honest in "[^\\x00<&%\\\\\u{2c2}\u{1438}\u{2039}\u{2329}\u{276c}\u{276e}\u{27e8}\u{29fc}\u{3008}\u{fe64}\u{ff1c}]{0,80}") {
            prop_assert_eq!(text(&honest), honest.as_str());
        }
    }
}
