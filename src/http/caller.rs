use std::sync::Arc;

/// The caller of a request, as a layer in front has authenticated it.
///
/// That layer inserts it into the extensions of the request. There [`Identity`](super::Identity) finds it, for the
/// layer that hands calls over and for the routes that show the tasks. For the layer it also sets session and agent:
/// one that is not set here may still come from its header, the user never. With
/// [`Identity::extension_only`](super::Identity::extension_only) no header says anything about the caller.
///
/// An [`IdentifyUser`](super::IdentifyUser) returns a `Caller` too.
///
/// Ids that are empty or longer than [`Caller::MAX_BYTES`] count as none. A caller without a user owns no tasks, so that
/// its calls stay in the foreground and the routes answer 401 or 400.
///
/// ```
/// use tower_offload::http::Caller;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Caller::new("alice").with_session("s1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    user_id: Arc<str>,
    session_id: Option<Arc<str>>,
    agent_id: Option<Arc<str>>,
}

impl Caller {
    /// The longest id of a user, session or agent, in bytes. It holds for headers too.
    pub const MAX_BYTES: usize = 256;

    /// This user, with session and agent not set.
    pub fn new(user_id: impl Into<Arc<str>>) -> Self {
        Self { user_id: user_id.into(), session_id: None, agent_id: None }
    }

    /// The session that the call belongs to.
    #[must_use]
    pub fn with_session(mut self, session_id: impl Into<Arc<str>>) -> Self {
        self.session_id = Some(session_id.into());
        self
    }

    /// The agent that makes the call.
    #[must_use]
    pub fn with_agent(mut self, agent_id: impl Into<Arc<str>>) -> Self {
        self.agent_id = Some(agent_id.into());
        self
    }

    /// The user, who will own the tasks.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    pub(super) fn shared_user_id(&self) -> Arc<str> {
        Arc::clone(&self.user_id)
    }

    /// The session, if it is set.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The agent, if it is set.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> {
        self.agent_id.as_deref()
    }
}

/// A user, with session and agent not set.
impl From<Arc<str>> for Caller {
    fn from(user_id: Arc<str>) -> Self {
        Self::new(user_id)
    }
}

/// A user, with session and agent not set.
impl From<String> for Caller {
    fn from(user_id: String) -> Self {
        Self::new(user_id)
    }
}

/// A user, with session and agent not set.
impl From<&str> for Caller {
    fn from(user_id: &str) -> Self {
        Self::new(user_id)
    }
}

/// The text, unless it is empty or too long.
pub(super) fn usable(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && text.len() <= Caller::MAX_BYTES).then_some(text)
}
