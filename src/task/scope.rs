use std::sync::Arc;

use super::TaskMeta;

/// Whose tasks a read or a stop is about.
///
/// There is no scope without an owner: a look-up always names a user, a session, or both. A task outside the
/// scope is answered exactly as one that does not exist.
///
/// Empty texts do not stand for an owner. A scope of the empty user, or of the empty session alone, contains no task:
/// otherwise it would be that of all users whose tasks have no session. [`in_session("")`](Self::in_session) names the
/// tasks of one user that have no session.
///
/// ```
/// use tower_offload::task::{Scope, TaskMeta};
///
/// let meta = TaskMeta::new("alice", "Bash").with_session("s1");
/// assert!(Scope::user("alice").contains(&meta));
/// assert!(!Scope::user("alice").in_session("s2").contains(&meta));
/// assert!(Scope::session("s1").contains(&meta));
///
/// let meta = TaskMeta::new("alice", "Bash");
/// assert!(Scope::user("alice").in_session("").contains(&meta));
/// assert!(!Scope::session("").contains(&meta));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    user_id: Option<Arc<str>>,
    session_id: Option<Arc<str>>,
}

impl Scope {
    /// All tasks of one user.
    pub fn user(user_id: impl Into<Arc<str>>) -> Self {
        Self { user_id: Some(user_id.into()), session_id: None }
    }

    /// All tasks of one session, of all users. For hosts that make their session ids themselves. Where clients choose
    /// them, two users can choose the same: use [`Scope::in_session`] there.
    pub fn session(session_id: impl Into<Arc<str>>) -> Self {
        Self { user_id: None, session_id: Some(session_id.into()) }
    }

    /// Every task: for messages that name a task by its id alone, which only its owner knows.
    pub(crate) const fn any() -> Self {
        Self { user_id: None, session_id: None }
    }

    pub(crate) fn and_user(self, user_id: Option<String>) -> Self {
        Self { user_id: user_id.map(Arc::from).or(self.user_id), ..self }
    }

    pub(crate) fn and_session(self, session_id: Option<String>) -> Self {
        Self { session_id: session_id.map(Arc::from).or(self.session_id), ..self }
    }

    /// The same scope without the tasks of other sessions. An empty session: the tasks that have none.
    #[must_use]
    pub fn in_session(mut self, session_id: impl Into<Arc<str>>) -> Self {
        self.session_id = Some(session_id.into());
        self
    }

    /// The user, if the scope names one.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// The session, if the scope names one.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// Whether the scope contains no task, whatever tasks there are.
    pub(crate) fn is_empty(&self) -> bool {
        match (self.user_id(), self.session_id()) {
            (Some(user), _) => user.is_empty(),
            (None, Some(session)) => session.is_empty(),
            (None, None) => false,
        }
    }

    /// Whether a task described by `meta` is inside.
    #[must_use]
    pub fn contains(&self, meta: &TaskMeta) -> bool {
        !self.is_empty()
            && self.user_id().is_none_or(|user| meta.is_of_user(user))
            && self.session_id().is_none_or(|session| meta.is_of_session(session))
    }
}
