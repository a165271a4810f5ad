use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::summary::one_line;

/// How long all texts may be together, so that an end fits into 32 bits, and a length into any `isize`.
const MAX_BYTES: usize = i32::MAX as usize;

/// What a new description has room for besides user and name: a session, an agent and a short summary. Anything more
/// doubles it, which is enough for all but the longest.
const ROOM: usize = 96;

/// What is worth a call of the allocator to get back. A smaller rest would be of no use to it.
const SLACK: usize = 32;

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
    inner: Arc<Inner>,
}

impl TaskMeta {
    /// The longest summary, in characters (code points).
    pub const MAX_SUMMARY_CHARS: usize = 128;

    /// A call of `tool_name` (a tool, a route, any name of an operation) by `user_id`.
    ///
    /// Session and agent are empty, there is no call id, and the summary is the name.
    pub fn new(user_id: impl AsRef<str>, tool_name: impl AsRef<str>) -> Self {
        let (user_id, tool_name) = (user_id.as_ref(), tool_name.as_ref());
        let mut inner = Inner::with_capacity([user_id.len(), tool_name.len(), ROOM]);
        inner.set(Part::User, user_id);
        inner.set(Part::Tool, tool_name);
        inner.set_summary(&Self::clip_summary(tool_name));
        Self { inner: Arc::new(inner) }
    }

    /// The same from all texts at once, as they are: the summary is one that was clipped before.
    pub(crate) fn from_parts(parts: Parts<&str>) -> Self {
        let Parts { user_id, session_id, agent_id, tool_name, summary, call_id } = parts;
        let own_summary = if summary == tool_name { "" } else { summary };
        let texts = [user_id, tool_name, session_id, agent_id, call_id.unwrap_or_default(), own_summary];
        let mut inner = Inner::with_capacity(texts.map(str::len));
        inner.set(Part::User, user_id);
        inner.set(Part::Tool, tool_name);
        inner.set(Part::Session, session_id);
        inner.set(Part::Agent, agent_id);
        if let Some(call_id) = call_id {
            inner.set_call_id(call_id);
        }
        inner.set_summary(summary);
        Self { inner: Arc::new(inner) }
    }

    /// The session that the call belongs to.
    #[must_use]
    pub fn with_session(mut self, session_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.inner).set(Part::Session, session_id.as_ref());
        self
    }

    /// The agent that made the call.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.inner).set(Part::Agent, agent_id.as_ref());
        self
    }

    /// The caller's own id for the call, such as the tool call id of a model.
    #[must_use]
    pub fn with_call_id(mut self, call_id: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.inner).set_call_id(call_id.as_ref());
        self
    }

    /// One line for people; see [`summarize`](super::summarize). Control characters become spaces, and what is
    /// longer than [`Self::MAX_SUMMARY_CHARS`] is cut and ends in `...`.
    #[must_use]
    pub fn with_summary(mut self, summary: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.inner).set_summary(&Self::clip_summary(summary.as_ref()));
        self
    }

    /// Who owns the task.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.inner.text(Part::User)
    }

    /// The session that the call belongs to; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.inner.text(Part::Session)
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.inner.text(Part::Agent)
    }

    /// The tool, route or operation that was called.
    #[must_use]
    pub fn tool_name(&self) -> &str {
        self.inner.text(Part::Tool)
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.inner.text(if self.inner.summary_is_name { Part::Tool } else { Part::Summary })
    }

    /// The caller's own id for the call.
    #[must_use]
    pub fn call_id(&self) -> Option<&str> {
        self.inner.has_call_id.then(|| self.inner.text(Part::CallId))
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

    /// The bytes of all texts, a summary that is the name counted like any other.
    pub(crate) fn text_bytes(&self) -> usize {
        let shared = if self.inner.summary_is_name { self.tool_name().len() } else { 0 };
        self.inner.texts.len().saturating_add(shared)
    }

    /// Whether the texts are too long for the limit on admission.
    pub(crate) fn exceeds(&self, max_bytes: usize) -> bool {
        self.inner.cut || self.text_bytes() > max_bytes
    }

    /// Gives back what was allocated in advance. For who keeps it, once it is built.
    pub(crate) fn fit(mut self) -> Self {
        if let Some(Inner { texts, .. }) = Arc::get_mut(&mut self.inner)
            && texts.capacity() - texts.len() >= SLACK
        {
            texts.shrink_to_fit();
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
        if meta.inner.cut { Err(serde::de::Error::custom("the texts are too long")) } else { Ok(meta) }
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

/// The texts one after the other, so that a description is two allocations and its clone is one count. The same
/// texts are always kept in the same way.
#[derive(Clone, Default, PartialEq, Eq)]
struct Inner {
    texts: String,
    /// The last one ends where all end.
    ends: [u32; Part::Summary as usize],
    has_call_id: bool,
    /// Then it is not kept a second time.
    summary_is_name: bool,
    /// Whether something was too long for [`MAX_BYTES`].
    cut: bool,
}

/// In the order in which they are usually set, so that each one is appended.
#[derive(Clone, Copy)]
enum Part {
    User,
    Tool,
    Session,
    Agent,
    CallId,
    Summary,
}

impl Inner {
    fn with_capacity<const N: usize>(lengths: [usize; N]) -> Self {
        let bytes = lengths.into_iter().fold(0, usize::saturating_add);
        Self { texts: String::with_capacity(bytes.min(MAX_BYTES)), ..Self::default() }
    }

    fn range(&self, part: Part) -> Range<usize> {
        let index = part as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        start..self.ends.get(index).map_or(self.texts.len(), |end| *end as usize)
    }

    fn text(&self, part: Part) -> &str {
        self.texts.get(self.range(part)).unwrap_or_default()
    }

    fn set_call_id(&mut self, call_id: &str) {
        self.set(Part::CallId, call_id);
        self.has_call_id = true;
    }

    fn set_summary(&mut self, summary: &str) {
        self.summary_is_name = summary == self.text(Part::Tool);
        self.set(Part::Summary, if self.summary_is_name { "" } else { summary });
    }

    fn set(&mut self, part: Part, text: &str) {
        self.set_within(MAX_BYTES, part, text);
    }

    /// Sets a text, as far as all together do not become longer than `max_bytes`.
    fn set_within(&mut self, max_bytes: usize, part: Part, text: &str) {
        let range = self.range(part);
        let others = self.texts.len() - range.len();
        let room = max_bytes.saturating_sub(others);
        let length = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.cut |= length < text.len();
        let text = &text[..length];
        for end in self.ends.iter_mut().skip(part as usize) {
            // Fits: no end is beyond `max_bytes`.
            *end = (*end as usize - range.len() + length) as u32;
        }
        if range.end == self.texts.len() {
            self.texts.truncate(range.start);
            self.texts.push_str(text);
        } else if range.is_empty() {
            self.texts.insert_str(range.start, text);
        } else {
            self.texts.replace_range(range, text);
        }
    }
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
    fn it_is_small() {
        assert_eq!(size_of::<TaskMeta>(), size_of::<usize>());
        // With the two counts of the `Arc`, one line of the cache.
        #[cfg(target_pointer_width = "64")]
        assert_eq!(size_of::<Inner>(), 48);
        assert_eq!(TaskMeta::new("alice", "Bash").inner.texts, "aliceBash");
    }

    #[test]
    fn the_usual_order_appends() {
        let meta =
            TaskMeta::new("u", "t").with_session("s").with_agent("a").with_call_id("c").with_summary("x");
        assert_eq!(meta.inner.texts, "utsacx");
        assert_eq!(meta.inner.texts.capacity(), 2 + ROOM);
        let full = meta.parts();
        assert_eq!(TaskMeta::from_parts(full).inner.texts.capacity(), 6);
    }

    #[test]
    fn fit_gives_back_what_is_not_needed_and_not_shared() {
        let meta = TaskMeta::new("u", "t");
        let shared = meta.clone();
        assert_eq!(meta.fit().inner.texts.capacity(), 2 + ROOM);
        let meta = shared.fit();
        assert_eq!(meta.inner.texts.capacity(), 2);
        let almost = "x".repeat(ROOM - SLACK + 1);
        assert_eq!(meta, TaskMeta::new("u", "t"));
        let meta = TaskMeta::new("u", "t").with_session(almost).fit();
        assert_eq!(meta.inner.texts.capacity(), 2 + ROOM);
    }

    #[test]
    fn texts_that_are_too_long_together_are_cut_and_not_admitted() {
        let mut inner = Inner::default();
        inner.set_within(6, Part::User, "ab");
        inner.set_within(6, Part::Summary, "ef");
        inner.set_within(6, Part::Agent, "éé");
        assert_eq!(inner.texts, "abéef");
        assert_eq!((inner.text(Part::Agent), inner.text(Part::Summary)), ("é", "ef"));
        inner.set_within(6, Part::Session, "x");
        assert_eq!((inner.text(Part::Session), inner.text(Part::Summary)), ("", "ef"));
        inner.set_within(3, Part::Tool, "x");
        assert_eq!(inner.texts, "abéef");
        let meta = TaskMeta { inner: Arc::new(inner) };
        assert!(meta.exceeds(usize::MAX));
        assert!(!TaskMeta::new("u", "t").exceeds(3));
        assert!(TaskMeta::new("u", "t").exceeds(2));
    }
}
