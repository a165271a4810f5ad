use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ContentBlock;

/// The answer of a tool: the response type of a tool service. Its JSON is AgentScope's `ToolResponse`.
///
/// ```
/// use tower_offload::ToolResponse;
///
/// let response = ToolResponse::text("call_1", "done");
/// assert_eq!(
///     serde_json::to_string(&response)?,
///     r#"{"id":"call_1","content":[{"type":"text","text":"done"}],"state":"success","metadata":{}}"#,
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolResponse {
    /// The id of the call that it answers.
    pub id: String,
    /// The output.
    pub content: Vec<ContentBlock>,
    /// The state of the call.
    pub state: ToolState,
    /// Values for the host, which the model does not get. The placeholder of a handed-over call has `call_id` and `task_id`
    /// here.
    pub metadata: Map<String, Value>,
}

impl ToolResponse {
    /// A response to the call `id`.
    pub fn new(id: impl Into<String>, state: ToolState, content: Vec<ContentBlock>) -> Self {
        Self { id: id.into(), content, state, metadata: Map::new() }
    }

    /// A success with one block of text.
    pub fn text(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, ToolState::Success, vec![ContentBlock::text(text)])
    }

    /// A failure with one block of text.
    pub fn error(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, ToolState::Error, vec![ContentBlock::text(text)])
    }

    /// The answer of a tool that has stopped because it was asked to, with one block of text. See
    /// [`ToolState::Interrupted`].
    pub fn interrupted(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(id, ToolState::Interrupted, vec![ContentBlock::text(text)])
    }

    /// Adds a value to [`metadata`](Self::metadata).
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Displays all blocks of text, one below the other, for people and for error summaries.
    #[must_use = "the text is made when it is displayed"]
    pub fn display_text(&self) -> impl fmt::Display + '_ {
        Texts(&self.content)
    }
}

struct Texts<'a>(&'a [ContentBlock]);

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts = self.0.iter().filter_map(ContentBlock::as_text);
        if let Some(first) = texts.next() {
            f.write_str(first)?;
        }
        texts.try_for_each(|text| write!(f, "\n{text}"))
    }
}

/// The state of a tool call.
///
/// These are the states of AgentScope's `ToolResponse`. [`ClassifyToolState`](super::ClassifyToolState) turns them into the
/// outcome of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolState {
    /// The tool succeeded.
    #[default]
    Success,
    /// The tool failed.
    Error,
    /// The tool has ended because it was asked to stop. Tools that watch their
    /// [`cancellation_token`](crate::cancellation_token) answer with it, so that the task is `cancelled` and not
    /// `completed`. Without a stop request it counts as a failure.
    Interrupted,
    /// The tool was not allowed to run.
    Denied,
}

impl ToolState {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Interrupted => "interrupted",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for ToolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
