use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::summary::one_line;

/// What was called, and by whom.
///
/// The user owns the task: nobody else sees it or stops it. The session is the conversation or job that the call
/// belongs to; it can be cancelled as a whole. Texts are kept as given, except the summary, which is made one
/// line of at most [`TaskMeta::MAX_SUMMARY_CHARS`] characters.
///
/// ```
/// use tower_offload::TaskMeta;
///
/// let meta = TaskMeta::new("alice", "Bash").with_session("s1").with_summary("Bash(command=make)");
/// assert_eq!(meta.user_id(), "alice");
/// assert_eq!(meta.agent_id(), "");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMeta {
    pub(crate) user_id: Arc<str>,
    pub(crate) session_id: Arc<str>,
    pub(crate) agent_id: Arc<str>,
    pub(crate) tool_name: Arc<str>,
    pub(crate) summary: Arc<str>,
    pub(crate) call_id: Option<Arc<str>>,
}

impl TaskMeta {
    /// The longest summary, in characters (code points).
    pub const MAX_SUMMARY_CHARS: usize = 128;

    /// A call of `tool_name` (a tool, a route, any name of an operation) by `user_id`.
    ///
    /// Session and agent are empty, there is no call id, and the summary is the name.
    pub fn new(user_id: impl Into<Arc<str>>, tool_name: impl Into<Arc<str>>) -> Self {
        let tool_name = tool_name.into();
        let empty: Arc<str> = Arc::default();
        Self {
            user_id: user_id.into(),
            session_id: Arc::clone(&empty),
            agent_id: empty,
            summary: clip_summary(Arc::clone(&tool_name)),
            tool_name,
            call_id: None,
        }
    }

    /// The session that the call belongs to.
    #[must_use]
    pub fn with_session(mut self, session_id: impl Into<Arc<str>>) -> Self {
        self.session_id = session_id.into();
        self
    }

    /// The agent that made the call.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl Into<Arc<str>>) -> Self {
        self.agent_id = agent_id.into();
        self
    }

    /// The caller's own id for the call, such as the tool call id of a model.
    #[must_use]
    pub fn with_call_id(mut self, call_id: impl Into<Arc<str>>) -> Self {
        self.call_id = Some(call_id.into());
        self
    }

    /// One line for people; see [`summarize`](super::summarize). Control characters become spaces, and what is
    /// longer than [`Self::MAX_SUMMARY_CHARS`] is cut and ends in `...`.
    #[must_use]
    pub fn with_summary(mut self, summary: impl Into<Arc<str>>) -> Self {
        self.summary = clip_summary(summary.into());
        self
    }

    /// Who owns the task.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The session that the call belongs to; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// The tool, route or operation that was called.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        &self.tool_name
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The caller's own id for the call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref()
    }

    /// The bytes of all texts, for the limit on admission.
    pub(crate) fn text_bytes(&self) -> usize {
        [&self.user_id, &self.session_id, &self.agent_id, &self.tool_name, &self.summary]
            .into_iter()
            .chain(self.call_id.as_ref())
            .map(|text| text.len())
            .sum()
    }
}

fn clip_summary(summary: Arc<str>) -> Arc<str> {
    match one_line(&summary, TaskMeta::MAX_SUMMARY_CHARS) {
        std::borrow::Cow::Borrowed(_) => summary,
        std::borrow::Cow::Owned(clipped) => clipped.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line_of_at_most_128_characters() {
        let meta = TaskMeta::new("u", "t").with_summary("a\nb\u{7f}c");
        assert_eq!(meta.summary(), "a b c");
        let meta = meta.with_summary("é".repeat(129));
        assert_eq!(meta.summary().chars().count(), 128);
        assert!(meta.summary().ends_with("é..."));
        assert_eq!(TaskMeta::new("u", "n".repeat(300)).summary().chars().count(), 128);
    }
}
