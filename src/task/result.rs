use std::fmt;
use std::sync::Arc;

use super::Outcome;

/// The result of a finished task. It can be read any number of times, until the manager drops it.
///
/// Cloning is cheap, because clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskResult(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    content_type: Box<str>,
    body: Box<[u8]>,
}

impl TaskResult {
    /// A result with the bytes `body`, of the media type `content_type`.
    pub fn new(content_type: impl Into<Box<str>>, body: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::new(Inner { content_type: content_type.into(), body: body.into() }))
    }

    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.0.content_type
    }

    /// The bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The size that the limits count, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.content_type.len() + self.0.body.len()
    }
}

impl fmt::Debug for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResult")
            .field("content_type", &self.content_type())
            .field("bytes", &self.body().len())
            .finish()
    }
}

/// The end of a task: its outcome, and the result to keep.
///
/// An [`Outcome`] alone converts into one without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// How it ended.
    pub outcome: Outcome,
    /// The result; the manager keeps it within its limits.
    pub result: Option<TaskResult>,
}

impl Settlement {
    /// An outcome, and a result to keep.
    #[must_use]
    pub const fn with_result(outcome: Outcome, result: TaskResult) -> Self {
        Self { outcome, result: Some(result) }
    }
}

impl From<Outcome> for Settlement {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, result: None }
    }
}
