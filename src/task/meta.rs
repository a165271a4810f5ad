use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::summary::one_line;
use super::texts::{Part, Texts};

/// What was called, and by whom.
///
/// The user owns the task: nobody else sees it or stops it. The session is the conversation or job that the call
/// belongs to; it can be cancelled as a whole. Texts are kept as given, except the summary, which is made one
/// line of at most [`TaskMeta::MAX_SUMMARY_CHARS`] characters. Should they have more than 2 GiB together, they are cut,
/// and the call is not admitted, whatever the limit is.
///
/// Cheap to clone: everything is behind one [`Arc`]. The `with_` methods copy only if a clone is alive.
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
    pub fn new(user_id: impl AsRef<str>, tool_name: impl AsRef<str>) -> Self {
        let (user_id, tool_name) = (user_id.as_ref(), tool_name.as_ref());
        let mut texts = Texts::with_capacity([user_id.len(), tool_name.len()]);
        texts.set(Part::User, user_id);
        texts.set(Part::Tool, tool_name);
        texts.set_summary(&Self::clip_summary(tool_name));
        Self { texts: Arc::new(texts) }
    }

    /// The same from all texts at once, as they are: the summary is one that was clipped before.
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

    /// The session that the call belongs to.
    #[must_use]
    pub fn with_session(mut self, session_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set(Part::Session, session_id.as_ref());
        self
    }

    /// The agent that made the call.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set(Part::Agent, agent_id.as_ref());
        self
    }

    /// The caller's own id for the call, such as the tool call id of a model.
    #[must_use]
    pub fn with_call_id(mut self, call_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set_call_id(call_id.as_ref());
        self
    }

    /// One line for people; see [`summarize`](super::summarize). Control characters become spaces, and what is
    /// longer than [`Self::MAX_SUMMARY_CHARS`] is cut and ends in `...`.
    #[must_use]
    pub fn with_summary(mut self, summary: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.texts).set_summary(&Self::clip_summary(summary.as_ref()));
        self
    }

    /// Who owns the task.
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

    /// All texts one after the other, those of the user too.
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

    /// Gives back what was allocated in advance, unless a clone is alive. For who keeps it.
    pub(crate) fn fit(mut self) -> Self {
        if let Some(texts) = Arc::get_mut(&mut self.texts) {
            texts.fit();
        }
        self
    }

    /// A summary as it is kept.
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

/// The texts of a [`TaskMeta`], each for itself.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

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

    /// What the texts are, kept in the plainest way.
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Model {
        user_id: String,
        session_id: String,
        agent_id: String,
        tool_name: String,
        summary: String,
        call_id: Option<String>,
    }

    impl Model {
        fn new(user_id: &str, tool_name: &str) -> Self {
            Self {
                user_id: user_id.to_owned(),
                session_id: String::new(),
                agent_id: String::new(),
                tool_name: tool_name.to_owned(),
                summary: one_line(tool_name, 128).into_owned(),
                call_id: None,
            }
        }

        fn of(meta: &TaskMeta) -> Self {
            Self {
                user_id: meta.user_id().to_owned(),
                session_id: meta.session_id().to_owned(),
                agent_id: meta.agent_id().to_owned(),
                tool_name: meta.tool_name().to_owned(),
                summary: meta.summary().to_owned(),
                call_id: meta.call_id().map(str::to_owned),
            }
        }

        fn text_bytes(&self) -> usize {
            let texts = [&self.user_id, &self.session_id, &self.agent_id, &self.tool_name, &self.summary];
            texts.into_iter().chain(&self.call_id).map(String::len).sum()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Session(String),
        Agent(String),
        CallId(String),
        Summary(String),
        SummaryIsName,
        Clone,
        Fit,
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), "[a-c]{1,4}", "[aé漢🦀\\n]{1,12}", "[é]{120,140}"]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => text().prop_map(Step::Session),
            3 => text().prop_map(Step::Agent),
            3 => text().prop_map(Step::CallId),
            3 => text().prop_map(Step::Summary),
            1 => Just(Step::SummaryIsName),
            1 => Just(Step::Clone),
            1 => Just(Step::Fit),
        ]
    }

    proptest! {
        #[test]
        fn any_order_of_steps_gives_what_was_set(
            user in text(),
            tool in text(),
            steps in proptest::collection::vec(step(), 0..12),
        ) {
            let mut meta = TaskMeta::new(&user, &tool);
            let mut model = Model::new(&user, &tool);
            let mut clones = Vec::new();
            prop_assert_eq!(Model::of(&meta), model.clone());
            for step in steps {
                match step {
                    Step::Session(text) => {
                        meta = meta.with_session(&text);
                        model.session_id = text;
                    }
                    Step::Agent(text) => {
                        meta = meta.with_agent(&text);
                        model.agent_id = text;
                    }
                    Step::CallId(text) => {
                        meta = meta.with_call_id(&text);
                        model.call_id = Some(text);
                    }
                    Step::Summary(text) => {
                        meta = meta.with_summary(&text);
                        model.summary = one_line(&text, 128).into_owned();
                    }
                    Step::SummaryIsName => {
                        meta = meta.with_summary(&tool);
                        model.summary = one_line(&tool, 128).into_owned();
                    }
                    Step::Clone => clones.push((meta.clone(), model.clone())),
                    Step::Fit => meta = meta.fit(),
                }
                prop_assert_eq!(Model::of(&meta), model.clone());
            }
            // What was cloned is as it was, and each is kept like one that was made at once.
            clones.push((meta, model));
            for (meta, model) in clones {
                prop_assert_eq!(Model::of(&meta), model.clone());
                prop_assert_eq!(meta.text_bytes(), model.text_bytes());
                prop_assert_eq!(&TaskMeta::from_parts(meta.parts()), &meta);
                let json = serde_json::to_string(&model).unwrap();
                prop_assert_eq!(&serde_json::to_string(&meta).unwrap(), &json);
                prop_assert_eq!(serde_json::from_str::<TaskMeta>(&json).unwrap(), meta);
            }
        }
    }

    #[test]
    fn a_call_id_that_is_empty_is_not_none() {
        let meta = TaskMeta::new("u", "t");
        assert_eq!(meta.call_id(), None);
        assert_eq!(meta.clone().with_call_id("").call_id(), Some(""));
        assert_ne!(meta.clone().with_call_id(""), meta);
    }

    #[test]
    fn it_is_read_as_it_is_written_and_nothing_is_clipped_then() {
        let long = "n\n".repeat(200);
        let json = json!({
            "user_id": "u", "session_id": "", "agent_id": "a", "tool_name": long, "summary": long, "call_id": null,
        });
        let meta: TaskMeta = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(meta.summary(), long);
        assert_eq!(serde_json::to_value(&meta).unwrap(), json);
        let text = r#"{"user_id":"u","session_id":"s","agent_id":"","tool_name":"t","summary":"x","new":1}"#;
        assert_eq!(serde_json::from_str::<TaskMeta>(text).unwrap().call_id(), None);
        let error = serde_json::from_str::<TaskMeta>("{}").unwrap_err().to_string();
        assert!(error.starts_with("missing field `user_id`"), "{error}");
        let error = serde_json::from_str::<TaskMeta>("1").unwrap_err().to_string();
        assert!(error.ends_with("expected struct TaskMeta at line 1 column 1"), "{error}");
    }

    #[test]
    fn debug_shows_the_texts() {
        let meta = TaskMeta::new("u", "t").with_session("s\n").with_call_id("c");
        let text =
            r#"TaskMeta { user_id: "u", session_id: "s\n", agent_id: "", tool_name: "t", summary: "t", "#;
        assert_eq!(format!("{meta:?}"), format!("{text}call_id: Some(\"c\") }}"));
    }

    #[test]
    fn it_is_one_handle() {
        assert_eq!(size_of::<TaskMeta>(), size_of::<usize>());
        let meta = TaskMeta::new("u", "t");
        assert!(Arc::ptr_eq(&meta.texts, &meta.clone().texts));
    }

    #[test]
    fn what_nobody_else_has_is_built_and_fitted_in_place() {
        let meta = TaskMeta::new("u", "t");
        let at = Arc::as_ptr(&meta.texts);
        let meta = meta.with_session("s").with_agent("a").with_call_id("c").with_summary("x").fit();
        assert_eq!(Arc::as_ptr(&meta.texts), at);
        let clone = meta.clone().fit();
        assert_eq!(Arc::as_ptr(&clone.texts), at);
    }

    #[test]
    fn the_limit_is_on_all_texts() {
        let meta = TaskMeta::new("u", "t");
        assert!(!meta.exceeds(3));
        assert!(meta.exceeds(2));
        assert!(meta.with_call_id("c").exceeds(3));
    }
}
