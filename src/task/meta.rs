#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::line::one_line;
use super::texts::{Part, Texts};

/// The description of a call: what was called, and by whom.
///
/// The user owns the task: no other user can read or stop it. The session is the conversation or job that the call belongs
/// to; all its tasks can be stopped together. The texts stay as given, except the summary, which becomes one line of at most
/// [`TaskMeta::MAX_SUMMARY_CHARS`] characters. Texts of more than 2 GiB together are cut, and the manager refuses such a
/// call under any limit.
///
/// Cloning is cheap, because all texts are behind one [`Arc`]. The `with_` methods copy them only if a clone is alive.
///
/// ```
/// use tower_offload::TaskMeta;
///
/// let meta = TaskMeta::new("alice", "Bash").with_session("s1").with_summary("Bash(command=make)");
/// assert_eq!(meta.user_id(), "alice");
/// assert_eq!(meta.agent_id(), "");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TaskMeta {
    texts: Arc<Texts>,
}

impl TaskMeta {
    /// The longest summary, in characters (code points).
    pub const MAX_SUMMARY_CHARS: usize = 128;

    /// A call of `tool_name` (a tool, a route, any name of an operation) by `user_id`.
    ///
    /// Session and agent are empty, there is no call id, and the summary is the name.
    ///
    /// Give each task a user, or a [session](Self::with_session) at least. A task without both runs and counts, but no
    /// [`Scope`](super::Scope) contains it: no caller can read it, wait for it or stop it.
    pub fn new(user_id: impl AsRef<str>, tool_name: impl AsRef<str>) -> Self {
        let (user_id, tool_name) = (user_id.as_ref(), tool_name.as_ref());
        let mut texts = Texts::with_capacity([user_id.len(), tool_name.len()]);
        texts.set(Part::User, user_id);
        texts.set(Part::Tool, tool_name);
        texts.set_summary(&Self::clip_summary(tool_name));
        Self { texts: Arc::new(texts) }
    }

    /// Makes a description of all texts at once. The caller has [clipped](Self::clip_summary) the summary.
    pub(crate) fn from_parts(parts: Parts<&str>) -> Self {
        let Parts { user_id, session_id, agent_id, tool_name, summary, call_id } = parts;
        let own_summary = if summary == tool_name { "" } else { summary };
        let all = [user_id, tool_name, session_id, agent_id, call_id.unwrap_or_default(), own_summary];
        let mut texts = Texts::with_capacity(all.map(str::len));
        texts.set(Part::User, user_id);
        texts.set(Part::Tool, tool_name);
        texts.set(Part::Session, session_id);
        texts.set(Part::Agent, agent_id);
        if let Some(call_id) = call_id {
            texts.set_call_id(call_id);
        }
        texts.set_summary(summary);
        Self { texts: Arc::new(texts) }
    }

    /// Sets the session that the call belongs to.
    #[must_use]
    pub fn with_session(mut self, session_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set(Part::Session, session_id.as_ref());
        self
    }

    /// Sets the agent that made the call.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set(Part::Agent, agent_id.as_ref());
        self
    }

    /// Sets the caller's own id for the call, such as the tool call id of a model.
    #[must_use]
    pub fn with_call_id(mut self, call_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set_call_id(call_id.as_ref());
        self
    }

    /// Sets one line for people; see [`summarize`](super::summarize). Control characters, line separators and marks that
    /// reorder text become spaces. A summary of more than [`Self::MAX_SUMMARY_CHARS`] characters is cut and ends in `...`.
    #[must_use]
    pub fn with_summary(mut self, summary: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set_summary(&Self::clip_summary(summary.as_ref()));
        self
    }

    /// The user that owns the task.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.texts.text(Part::User)
    }

    /// The session that the call belongs to; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.texts.text(Part::Session)
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.texts.text(Part::Agent)
    }

    /// The tool, route or operation that was called.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        self.texts.text(Part::Tool)
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.texts.summary()
    }

    /// The caller's own id for the call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.texts.call_id()
    }

    pub(crate) fn is_of_user(&self, user_id: &str) -> bool {
        self.texts.is(Part::User, user_id)
    }

    pub(crate) fn is_of_session(&self, session_id: &str) -> bool {
        self.texts.is(Part::Session, session_id)
    }

    /// All texts one after the other, the user's id included.
    #[cfg(feature = "api")]
    pub(crate) fn all_texts(&self) -> &str {
        self.texts.all()
    }

    /// All texts.
    pub(crate) fn parts(&self) -> Parts<&str> {
        Parts {
            user_id: self.user_id(),
            session_id: self.session_id(),
            agent_id: self.agent_id(),
            tool_name: self.tool_name(),
            summary: self.summary(),
            call_id: self.call_id(),
        }
    }

    /// The bytes of all texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.texts.bytes()
    }

    /// Whether the texts are too long for the limit on admission.
    pub(crate) fn exceeds(&self, max_bytes: usize) -> bool {
        self.texts.is_cut() || self.text_bytes() > max_bytes
    }

    /// Frees memory that was allocated in advance, unless a clone is alive. The table calls it for what it keeps.
    pub(crate) fn fit(mut self) -> Self {
        if let Some(texts) = Arc::get_mut(&mut self.texts) {
            texts.fit();
        }
        self
    }

    /// Cuts a summary to the form that a description stores.
    pub(crate) fn clip_summary(summary: &str) -> Cow<'_, str> {
        one_line(summary, Self::MAX_SUMMARY_CHARS)
    }
}

impl fmt::Debug for TaskMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskMeta")
            .field("user_id", &self.user_id())
            .field("session_id", &self.session_id())
            .field("agent_id", &self.agent_id())
            .field("tool_name", &self.tool_name())
            .field("summary", &self.summary())
            .field("call_id", &self.call_id())
            .finish()
    }
}

impl Serialize for TaskMeta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TaskMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<String>::deserialize(deserializer)?;
        let meta = Self::from_parts(Parts {
            user_id: &parts.user_id,
            session_id: &parts.session_id,
            agent_id: &parts.agent_id,
            tool_name: &parts.tool_name,
            summary: &parts.summary,
            call_id: parts.call_id.as_deref(),
        });
        if meta.texts.is_cut() { Err(serde::de::Error::custom("the texts are too long")) } else { Ok(meta) }
    }
}

/// The texts of a [`TaskMeta`], each in a field.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "TaskMeta", expecting = "struct TaskMeta")]
pub(crate) struct Parts<T> {
    pub(crate) user_id: T,
    pub(crate) session_id: T,
    pub(crate) agent_id: T,
    pub(crate) tool_name: T,
    pub(crate) summary: T,
    pub(crate) call_id: Option<T>,
}
