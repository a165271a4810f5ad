use std::sync::Arc;

use super::TaskMeta;

/// Whose tasks a read or a stop is about.
///
/// There is no scope without an owner: a look-up always names a user, a session, or both. A task outside the
/// scope is answered exactly as one that does not exist.
///
/// ```
/// use tower_offload::task::{Scope, TaskMeta};
///
/// let meta = TaskMeta::new("alice", "Bash").with_session("s1");
/// assert!(Scope::user("alice").contains(&meta));
/// assert!(!Scope::user("alice").in_session("s2").contains(&meta));
/// assert!(Scope::session("s1").contains(&meta));
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

    /// All tasks of one session, whoever the user is. For hosts whose session ids are their own: where clients
    /// choose them, two users may choose the same, and [`Scope::in_session`] is the one to use.
    pub fn session(session_id: impl Into<Arc<str>>) -> Self {
        Self { user_id: None, session_id: Some(session_id.into()) }
    }

    /// Every task: for messages whose sender was trusted to know the id alone.
    pub(crate) const fn any() -> Self {
        Self { user_id: None, session_id: None }
    }

    pub(crate) fn and_user(self, user_id: Option<String>) -> Self {
        Self { user_id: user_id.map(Arc::from).or(self.user_id), ..self }
    }

    pub(crate) fn and_session(self, session_id: Option<String>) -> Self {
        Self { session_id: session_id.map(Arc::from).or(self.session_id), ..self }
    }

    /// The same, but only what belongs to this session as well.
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

    /// Whether a task described by `meta` is inside.
    #[must_use]
    pub fn contains(&self, meta: &TaskMeta) -> bool {
        self.user_id().is_none_or(|user| meta.is_of_user(user))
            && self.session_id().is_none_or(|session| meta.is_of_session(session))
    }
}
