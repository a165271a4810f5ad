//! What is written to the bus: the payloads of AgentScope, and ours.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::task::TaskRecord;

/// On [`TASK_CANCEL`](super::keys::TASK_CANCEL): a request to stop one task.
///
/// AgentScope sends the id alone, and its receivers ignore the other fields. Receivers of this crate check each field
/// that the sender has added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCancel {
    /// The task, in whatever form its owner writes ids.
    pub task_id: String,
    /// Only if the task belongs to this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Only if the task belongs to this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// On [`SESSION_CANCEL`](super::keys::SESSION_CANCEL) and
/// [`SESSION_INTERRUPT`](super::keys::SESSION_INTERRUPT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSignal {
    /// The session.
    pub session_id: String,
    /// Only what belongs to this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// A live task in [`background_tasks`](super::keys::background_tasks).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryEntry {
    /// The tool, route or operation that was called.
    pub tool_name: String,
    /// The agent that made the call.
    pub agent_id: String,
    /// When it moved to the background, in seconds since the Unix epoch.
    pub started_at: f64,
}

impl RegistryEntry {
    /// The entry of a task.
    #[must_use]
    pub fn of(record: &TaskRecord) -> Self {
        let started_at = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            tool_name: record.meta.tool_name().to_owned(),
            agent_id: record.meta.agent_id().to_owned(),
            // To the microsecond, as Python's clock has it.
            started_at: Duration::from_micros(started_at.as_micros() as u64).as_secs_f64(),
        }
    }
}

/// The kind of a plain [`Wakeup`].
const WAKE: &str = "wake";

/// An entry of [`WAKEUPS`](super::keys::WAKEUPS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wakeup {
    /// The user that the session belongs to.
    pub user_id: String,
    /// The session to wake.
    pub session_id: String,
    /// The agent that should run.
    pub agent_id: String,
    /// `wake`, or what AgentScope's own front ends send: `resume`, `message`.
    #[serde(default = "Wakeup::default_kind")]
    pub kind: String,
    /// What goes with `resume` and `message`: an object.
    #[serde(default)]
    pub input: Option<serde_json::Value>,
    /// The other fields of the entry. Later versions of AgentScope have more, and a process that puts a wakeup back
    /// keeps them.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Wakeup {
    /// A plain wakeup: there is something in the inbox.
    pub fn wake(
        user_id: impl Into<String>,
        session_id: impl Into<String>,
        agent_id: impl Into<String>,
    ) -> Self {
        Self {
            user_id: user_id.into(),
            session_id: session_id.into(),
            agent_id: agent_id.into(),
            kind: Self::default_kind(),
            input: None,
            extra: serde_json::Map::new(),
        }
    }

    /// Whether it says no more than that there is something in the inbox.
    pub(super) fn is_plain(&self) -> bool {
        self.kind == WAKE
    }

    /// Reads an entry of the queue. The error says what is wrong with it, in a few words.
    pub(super) fn read(payload: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        // By way of a value, which takes the last of two fields of one name, as Python does.
        let entry: serde_json::Value = serde_json::from_str(payload)?;
        let wakeup: Self = serde_json::from_value(entry)?;
        match (wakeup.kind.as_str(), &wakeup.input) {
            ("resume" | "message", None) => Err("it carries no input".into()),
            ("resume" | "message", Some(input)) if !input.is_object() => {
                Err("its input is not an object".into())
            }
            _ => Ok(wakeup),
        }
    }

    fn default_kind() -> String {
        WAKE.to_owned()
    }
}

/// A result on its way to a session's inbox; see [`MessageBus::deliver`](super::MessageBus::deliver).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// A second delivery with the same key to the same session changes nothing: the task's id.
    pub dedupe_key: Arc<str>,
    /// The user that the session belongs to.
    pub user_id: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// The agent to wake.
    pub agent_id: Arc<str>,
    /// What goes into the inbox: the JSON text of an object.
    pub payload: String,
}

impl Delivery {
    /// `payload`, for the session that `meta` names.
    pub fn new(dedupe_key: impl Into<Arc<str>>, meta: &crate::task::TaskMeta, payload: String) -> Self {
        Self {
            dedupe_key: dedupe_key.into(),
            user_id: meta.user_id().into(),
            session_id: meta.session_id().into(),
            agent_id: meta.agent_id().into(),
            payload,
        }
    }
}
