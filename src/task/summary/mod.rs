//! One line about a call, for people: [`summarize`].

mod json;
mod shown;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::IgnoredAny;

use self::json::Json;
use self::shown::{Rule, Shown};
use super::TaskMeta;
#[cfg(doc)]
use super::redact::redact;
use super::redact::redact_start;

const MAX: usize = TaskMeta::MAX_SUMMARY_CHARS;
const ELLIPSIS: &str = "...";

/// Makes one line about a call, for people: the tool's name and its arguments, without secrets.
///
/// ```
/// use tower_offload::summarize;
///
/// assert_eq!(summarize("Bash", None), "Bash");
/// assert_eq!(summarize("Bash", Some("make -j2")), "Bash(make -j2)");
/// assert_eq!(
///     summarize("Fetch", Some(r#"{"url": "https://example.org", "retries": 3, "api_key": "s3cr3t"}"#)),
///     "Fetch(url=https://example.org, retries=3, api_key=[redacted])",
/// );
/// assert_eq!(
///     summarize("Fetch", Some(r#"{"headers": {"Cookie": "id=1"}, "body": [1, 2]}"#)),
///     r#"Fetch(headers={"Cookie":"[redacted]"}, body=[1,2])"#,
/// );
/// ```
///
/// # What is shown
///
/// | `input` | summary |
/// | --- | --- |
/// | none, empty, only whitespace | the name |
/// | not JSON | `Name(text)`, a text of more than 64 characters as its first 64 and `...` |
/// | JSON, but no object, or an empty one | the name |
/// | a JSON object | `Name(key=value, key=value)`, in the object's own order, a key that comes twice shown twice |
///
/// - A value of more than 40 characters is shown as its first 37 and `...`. A pair that does not fit
///   becomes one `...`, which ends the list.
/// - A string value is shown without quotes and escapes, a number as it is written, an array or object as
///   compact JSON. Half of a surrogate pair (`"\ud800"`) is shown as U+FFFD.
/// - The summary is one line of at most [`TaskMeta::MAX_SUMMARY_CHARS`] characters (Unicode code points). Control
///   characters, U+2028, U+2029, and marks that reorder text (U+202A to U+202E, U+2066 to U+2069) become spaces. Each
///   opened bracket is closed. If the line would be too long, the text is cut to less than 64 characters, and then the name
///   is cut, which ends in `...`.
/// - `=`, `,` and brackets inside keys, values and text are not escaped: the summary is not meant to be parsed.
///
/// # Secrets
///
/// A secret that [`redact`] recognises in a text, a string value or a key becomes `[redacted]`. Any value under a secret
/// key is hidden, at each level of nesting, and any value under a key of more than 1,024 characters. An array of strings
/// counts as the arguments of a command: the value after `--password` is hidden, and the value after `-p` if `redact` would
/// hide it. [`summarize_with`] takes another rule for texts.
///
/// **Not covered:** a secret that `redact` does not recognise, such as one under an innocent key (`{"q": "hunter2"}`,
/// `{"name": "token", "value": "x"}`), and the tool's name.
///
/// # Cost
///
/// The function passes a few times over `input`, each time in linear time, and recurses at most 41 levels deep. It copies
/// at most 1,024 characters of any text, so that 10 MB of input cost time but no memory, except one byte for each level of
/// nesting. No input makes it panic.
#[must_use]
pub fn summarize(tool_name: &str, input: Option<&str>) -> String {
    line(tool_name, input, &redact_start)
}

/// Makes the same line as [`summarize`], with another rule for the secrets in texts.
///
/// `rule` gets a text that is not JSON, each string value and each key, and of each the first 1,024 characters at most. It
/// returns the text to show. To extend the rule of the crate, call [`redact`] in it. Values under secret keys are hidden in
/// any case.
///
/// ```
/// use tower_offload::{redact, summarize_with};
///
/// let rule = |text: &str| redact(text).replace("Alice", "[name]");
/// let input = r#"{"to": "Alice", "password": "s3cr3t"}"#;
/// assert_eq!(summarize_with("Mail", Some(input), rule), "Mail(to=[name], password=[redacted])");
/// ```
#[must_use]
pub fn summarize_with(tool_name: &str, input: Option<&str>, rule: impl Fn(&str) -> String) -> String {
    line(tool_name, input, &|text, _| Cow::Owned(rule(text)))
}

fn line(tool_name: &str, input: Option<&str>, rule: Rule<'_>) -> String {
    let Some(input) = input.filter(|text| !text.trim().is_empty()) else {
        return name(tool_name, MAX);
    };
    // Unlike `Value`, `IgnoredAny` does not recurse, and accepts any number and half a surrogate pair.
    if serde_json::from_str::<IgnoredAny>(input).is_err() {
        return with_text(tool_name, input, rule);
    }
    let pairs = Json::object(input).and_then(|mut object| object.next_item().then_some(object));
    pairs.map_or_else(|| name(tool_name, MAX), |object| with_pairs(tool_name, object, rule))
}

fn name(tool_name: &str, max: usize) -> String {
    let mut shown = Shown::new(max, &|text, _| Cow::Borrowed(text));
    for c in tool_name.chars() {
        if shown.push(c).is_none() {
            break;
        }
    }
    shown.cut(max, max.saturating_sub(ELLIPSIS.len()))
}

/// `Name(` with the name cut so that at least `...)` still fits.
fn open(tool_name: &str) -> (String, usize) {
    let mut line = name(tool_name, MAX - "(...)".len());
    line.push('(');
    let chars = line.chars().count();
    (line, chars)
}

fn with_text(tool_name: &str, text: &str, rule: Rule<'_>) -> String {
    const TEXT: usize = 64;
    let (mut line, chars) = open(tool_name);
    let room = MAX.saturating_sub(chars + 1);
    let shown = Shown::of_text(text.chars(), TEXT, rule);
    line.push_str(&shown.cut(room.min(TEXT), room.saturating_sub(ELLIPSIS.len()).min(TEXT)));
    line.push(')');
    line
}

/// `object` stands on its first pair.
fn with_pairs(tool_name: &str, mut object: Json<'_>, rule: Rule<'_>) -> String {
    let (mut line, mut chars) = open(tool_name);
    let mut separator = "";
    loop {
        let pair = object.pair(MAX, rule);
        let more = object.next_item();
        let end = if more { ", ...)" } else { ")" };
        let needed = separator.len() + pair.chars().count();
        line.push_str(separator);
        if chars + needed + end.len() > MAX {
            line.push_str("...)");
            return line;
        }
        line.push_str(&pair);
        if !more {
            line.push(')');
            return line;
        }
        chars += needed;
        separator = ", ";
    }
}
