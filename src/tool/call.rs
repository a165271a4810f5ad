use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::offload::OffloadCall;
use crate::task::{Parts, TaskMeta, summarize};

/// One call of a tool by an agent: the request type of a tool service.
///
/// Cloning is cheap, because all texts are behind one [`Arc`]. The `with_` methods copy them only if a clone is alive. In
/// AgentScope, the `ToolCallBlock` and the agent's state hold this data.
///
/// [`ToolPolicy`](super::ToolPolicy) never hands over a call without a user or without a session: no user could watch it,
/// or its result would have no inbox. Apart from that, such a call works like any other.
///
/// ```
/// use tower_offload::ToolCall;
///
/// #[derive(serde::Deserialize)]
/// struct Bash {
///     command: String,
/// }
///
/// let call = ToolCall::new("Bash", r#"{"command": "make"}"#)
///     .with_id("call_1")
///     .with_user("alice")
///     .with_session("session-1")
///     .with_agent("agent");
/// assert_eq!(call.parse_input::<Bash>()?.command, "make");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ToolCall(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    id: Arc<str>,
    name: Arc<str>,
    input: Arc<str>,
    user_id: Arc<str>,
    session_id: Arc<str>,
    agent_id: Arc<str>,
}

impl ToolCall {
    /// A call of the tool `name`. `input` is the JSON text of the arguments, as the model wrote it. The crate parses it only
    /// when it needs the arguments.
    ///
    /// Id, user, session and agent are empty.
    pub fn new(name: impl Into<Arc<str>>, input: impl Into<Arc<str>>) -> Self {
        let empty: Arc<str> = Arc::default();
        Self(Arc::new(Inner {
            id: Arc::clone(&empty),
            name: name.into(),
            input: input.into(),
            user_id: Arc::clone(&empty),
            session_id: Arc::clone(&empty),
            agent_id: empty,
        }))
    }

    /// Sets the id that the model gave the call. The response, the placeholder and the hint contain it.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).id = id.into();
        self
    }

    /// Sets the user that the agent works for. Take it from an authenticated identity and never from the model, because
    /// that user can read and stop the task.
    #[must_use]
    pub fn with_user(mut self, user_id: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).user_id = user_id.into();
        self
    }

    /// Sets the session. If the call is handed over, its result goes into the inbox of this session.
    #[must_use]
    pub fn with_session(mut self, session_id: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).session_id = session_id.into();
        self
    }

    /// Sets the agent that made the call. The result of a handed-over call wakes it.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).agent_id = agent_id.into();
        self
    }

    /// The id that the model gave the call; empty if there is none.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The tool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The JSON text of the arguments.
    #[must_use]
    pub fn input(&self) -> &str {
        &self.0.input
    }

    /// The user that the agent works for; empty if there is none.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.0.user_id
    }

    /// The session; empty if there is none.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.0.session_id
    }

    /// The agent that made the call; empty if there is none.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }

    /// Parses the arguments. An empty or blank input counts as `{}`, because models write both when a tool needs no
    /// arguments.
    ///
    /// # Errors
    ///
    /// When the input is not JSON, or not what `T` needs.
    pub fn parse_input<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self.input() {
            blank if blank.trim().is_empty() => serde_json::from_str("{}"),
            input => serde_json::from_str(input),
        }
    }
}

/// [`summarize`] makes the summary of the task.
impl OffloadCall for ToolCall {
    fn meta(&self) -> TaskMeta {
        TaskMeta::from_parts(Parts {
            user_id: self.user_id(),
            session_id: self.session_id(),
            agent_id: self.agent_id(),
            tool_name: self.name(),
            summary: &summarize(self.name(), Some(self.input())),
            call_id: Some(self.id()).filter(|id| !id.is_empty()),
        })
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the input, which may contain secrets, because this text goes to logs.
        f.debug_struct("ToolCall")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("user_id", &self.user_id())
            .field("session_id", &self.session_id())
            .field("agent_id", &self.agent_id())
            .field("input_bytes", &self.input().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_clone_leaves_the_other_alone() {
        let call = ToolCall::new("Bash", "{}").with_id("1");
        let other = call.clone().with_id("2");
        assert_eq!((call.id(), other.id()), ("1", "2"));
        assert_eq!(size_of::<ToolCall>(), size_of::<usize>());
    }

    #[test]
    fn debug_hides_the_input() {
        let text = format!("{:?}", ToolCall::new("Login", r#"{"password": "hunter2"}"#));
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_blank_input_is_an_empty_object() {
        let read = |input: &str| ToolCall::new("T", input).parse_input::<serde_json::Value>();
        assert_eq!(read("").unwrap(), serde_json::json!({}));
        assert_eq!(read(" \n").unwrap(), serde_json::json!({}));
        assert_eq!(read("[1]").unwrap(), serde_json::json!([1]));
        assert!(read("{").is_err());
    }

    #[test]
    fn a_call_without_an_id_describes_none() {
        assert_eq!(ToolCall::new("T", "").meta().call_id(), None);
        assert_eq!(ToolCall::new("T", "").with_id("c").meta().call_id(), Some("c"));
    }
}
