use std::sync::Arc;

use super::TaskMeta;

/// The owner whose tasks a read or a stop may reach.
///
/// Each scope has an owner: a look-up names a user, a session, or both. A task outside of the scope gets the same answer as
/// a task that does not exist.
///
/// An empty text is not an owner. A scope of the empty user, or of the empty session alone, contains no task: otherwise it
/// would contain the tasks of all users that have no session. [`in_session("")`](Self::in_session) contains the tasks of
/// one user that have no session.
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

    /// All tasks of one session, of all users. Use it where the host makes the session ids. Where clients choose them, two
    /// users can choose the same id: use [`Scope::in_session`] there.
    pub fn session(session_id: impl Into<Arc<str>>) -> Self {
        Self { user_id: None, session_id: Some(session_id.into()) }
    }

    /// Every task, for messages that name a task by its id alone. Only its owner knows the id.
    pub(crate) const fn any() -> Self {
        Self { user_id: None, session_id: None }
    }

    pub(crate) fn and_user(self, user_id: Option<String>) -> Self {
        Self { user_id: user_id.map(Arc::from).or(self.user_id), ..self }
    }

    pub(crate) fn and_session(self, session_id: Option<String>) -> Self {
        Self { session_id: session_id.map(Arc::from).or(self.session_id), ..self }
    }

    /// Limits the scope to one session. The empty session contains the tasks that have no session.
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

    /// Whether no task can be in the scope.
    pub(crate) fn is_empty(&self) -> bool {
        match (self.user_id(), self.session_id()) {
            (Some(user), _) => user.is_empty(),
            (None, Some(session)) => session.is_empty(),
            (None, None) => false,
        }
    }

    /// Whether a task with the description `meta` is in the scope.
    #[must_use]
    pub fn contains(&self, meta: &TaskMeta) -> bool {
        !self.is_empty()
            && self.user_id().is_none_or(|user| meta.is_of_user(user))
            && self.session_id().is_none_or(|session| meta.is_of_session(session))
    }
}
