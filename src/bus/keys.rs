//! The names of keys and channels, as AgentScope has them.
//!
//! Session ids go into names as they are. Source: AgentScope 2.0.10, `app/message_bus/_keys.py`.

/// Channel: cancel one task. Payload: [`TaskCancel`](super::message::TaskCancel).
pub const TASK_CANCEL: &str = "agentscope:task:cancel";
/// Channel: cancel a session's run and its tasks. Payload: [`SessionSignal`](super::message::SessionSignal).
pub const SESSION_CANCEL: &str = "agentscope:session:cancel";
/// Channel: interrupt a session's run; its tasks live on. Payload:
/// [`SessionSignal`](super::message::SessionSignal).
pub const SESSION_INTERRUPT: &str = "agentscope:session:interrupt";
/// Queue, shared by all sessions: who should be woken.
pub const WAKEUPS: &str = "agentscope:wakeups";
/// Channel: something was put into [`WAKEUPS`].
pub const WAKEUP_SIGNAL: &str = "agentscope:wakeup_signal";
/// Field of [`inbox_consumer`]: a run of the session reads its inbox.
pub const CONSUMER_RUNNING: &str = "running";

/// How long [`background_tasks`] lives after its last write.
pub const BACKGROUND_TASKS_TTL: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Registry: the live tasks of a session, by task id. Payload: [`RegistryEntry`](super::message::RegistryEntry).
#[must_use]
pub fn background_tasks(session_id: &str) -> String {
    format!("agentscope:bg_tasks:{session_id}")
}

/// Queue: what was delivered to a session.
#[must_use]
pub fn inbox(session_id: &str) -> String {
    format!("agentscope:inbox:{session_id}")
}

/// Lock: who changes the inbox or its consumer flag.
#[must_use]
pub fn inbox_lock(session_id: &str) -> String {
    format!("agentscope:inbox:lock:{session_id}")
}

/// Registry: whether the session reads its inbox by itself.
#[must_use]
pub fn inbox_consumer(session_id: &str) -> String {
    format!("agentscope:inbox:consumer:{session_id}")
}

/// Lock: who runs the session. AgentScope takes it for 600 s and renews it.
#[must_use]
pub fn session_lock(session_id: &str) -> String {
    format!("agentscope:session:lock:{session_id}")
}
