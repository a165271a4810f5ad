use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a task. The placeholder, REST, the bus, the delivered hint, logs and spans use the same id.
///
/// An id is a random (version 4) UUID, so that it cannot be guessed. Its text has 36 lower-case characters with hyphens;
/// parsing accepts each form that [`Uuid`] reads. An id alone gives no access, because every look-up is scoped by the owner
/// of the task.
///
/// ```
/// use tower_offload::TaskId;
///
/// let id = TaskId::new();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert_eq!(id.to_string().len(), 36);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// The length of an id as text, in characters.
    #[cfg(feature = "redis")]
    pub(crate) const TEXT_LEN: usize = uuid::fmt::Hyphenated::LENGTH;

    /// A new random id.
    #[expect(clippy::new_without_default, reason = "a default that differs each time surprises")]
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Parses the form that `Display` writes: 36 lower-case characters with hyphens. Any other form of a UUID is `None`, so
    /// that a task has one address and one name on the bus.
    pub(crate) fn canonical(text: &str) -> Option<Self> {
        let id: Self = text.parse().ok()?;
        let mut buffer = Uuid::encode_buffer();
        (id.0.as_hyphenated().encode_lower(&mut buffer) == text).then_some(id)
    }

    /// The UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<TaskId> for Uuid {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl FromStr for TaskId {
    type Err = ParseTaskIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self).map_err(ParseTaskIdError)
    }
}

/// The error of parsing a [`TaskId`]: the text is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTaskIdError(uuid::Error);

impl fmt::Display for ParseTaskIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task id is a UUID")
    }
}

impl std::error::Error for ParseTaskIdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
