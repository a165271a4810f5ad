//! What the manager stores and logs of texts that come from outside.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::panics;
use crate::task::{MARK, Outcome, Settlement, TaskMeta, redact, rendered};

type Rule = dyn Fn(&str) -> String + Send + Sync;

/// The rule for secrets in texts. Cheap to clone.
///
/// It runs user code, so it is never called under a lock. A rule that panics costs its text, which is then not shown.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Option<Arc<Rule>>);

impl Redactor {
    pub(crate) fn new(rule: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rule)))
    }

    /// The first `max_chars` characters of what is left of `text`, and whether there is more.
    ///
    /// However long the text is, only its beginning is rendered and looked at. That is longer than what is kept, because
    /// the rule may make it shorter.
    pub(crate) fn text(&self, text: impl fmt::Display, max_chars: usize) -> (String, bool) {
        let rendered = panics::catch(|| rendered(text, max_chars.saturating_mul(Outcome::WINDOW)));
        let (text, more) = rendered.unwrap_or_default();
        let mut text = self.apply(&text).into_owned();
        if let Some((end, _)) = text.char_indices().nth(max_chars) {
            text.truncate(end);
            return (text, true);
        }
        if more && !text.ends_with(MARK) {
            // The text was cut here, so the last word may be the first part of a secret.
            let end = text.rfind(char::is_whitespace).unwrap_or(0);
            text.truncate(end);
        }
        (text, more)
    }

    /// The settlement as it may be stored.
    pub(super) fn settlement(&self, settlement: Settlement) -> Settlement {
        let Settlement { outcome: Outcome::Failed { reason, summary }, result } = settlement else {
            return settlement;
        };
        let (summary, _) = self.text(summary, Outcome::MAX_ERROR_CHARS);
        Settlement { outcome: Outcome::Failed { reason, summary }, result }
    }

    /// The description as it may be stored. What makes the summary has applied the crate's own rule to it, if that is
    /// [`summarize`](crate::summarize); a rule of the host is applied here, whatever has made it.
    pub(super) fn meta(&self, meta: TaskMeta) -> TaskMeta {
        if self.0.is_none() {
            return meta;
        }
        let summary = self.apply(meta.summary()).into_owned();
        if summary == meta.summary() { meta } else { meta.with_summary(summary) }
    }

    fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            None => panics::catch(|| redact(text)).unwrap_or(Cow::Borrowed(MARK)),
            Some(rule) => panics::catch(|| rule(text)).map_or(Cow::Borrowed(MARK), Cow::Owned),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Redactor(own)" } else { "Redactor(default)" })
    }
}
