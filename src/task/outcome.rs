use std::fmt;

use super::line::rendered;
use super::{FailureReason, TaskStatus};

/// How a piece of work ended, as reported by the work itself or by its classifier.
///
/// ```
/// use tower_offload::task::{IntoOutcome, Outcome, TaskStatus};
///
/// assert_eq!(Outcome::Completed.status(), TaskStatus::Completed);
/// let failed: Result<(), &str> = Err("disk full");
/// assert_eq!(failed.into_outcome(), Outcome::failed("disk full"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The work succeeded.
    Completed,
    /// The work failed.
    #[non_exhaustive]
    Failed {
        /// The kind of failure.
        reason: FailureReason,
        /// The text of the error. The manager applies its rule for [secrets](crate::redact) and keeps the first
        /// [`Outcome::MAX_ERROR_CHARS`] characters of the rest. This text is longer, because the rule may shorten it.
        summary: String,
    },
    /// The work stopped before its end because it was asked to. Only for work that watches its cancellation token: without
    /// a stop request this counts as a failure.
    Cancelled,
}

impl Outcome {
    /// The longest error text of a record, in characters (code points).
    pub const MAX_ERROR_CHARS: usize = 512;

    /// The factor by which the text that is rendered and searched for secrets is longer than the text that is kept.
    pub(crate) const WINDOW: usize = 4;

    /// A failure of the kind [`FailureReason::Error`].
    pub fn failed(summary: impl fmt::Display) -> Self {
        Self::failed_as(FailureReason::Error, summary)
    }

    pub(crate) fn failed_as(reason: FailureReason, summary: impl fmt::Display) -> Self {
        // One more than the manager reads, so that the manager can tell a cut text from a whole one.
        let (summary, _) = rendered(summary, Self::MAX_ERROR_CHARS * Self::WINDOW + 1);
        Self::Failed { reason, summary }
    }

    /// The status of a task that ends like this.
    #[must_use]
    pub const fn status(&self) -> TaskStatus {
        match self {
            Self::Completed => TaskStatus::Completed,
            Self::Failed { .. } => TaskStatus::Failed,
            Self::Cancelled => TaskStatus::Cancelled,
        }
    }
}

/// The output of a future that `TaskManager::spawn` runs.
///
/// `()` and `Ok` are a success, `Err` is a failure with the error's text, and an [`Outcome`] is itself.
pub trait IntoOutcome {
    /// Converts the output into the outcome of the task.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Completed
    }
}

impl<T, E: fmt::Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(_) => Outcome::Completed,
            Err(error) => Outcome::failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_is_cut_while_it_is_written() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("é")?;
                }
            }
        }
        let Outcome::Failed { summary, .. } = Outcome::failed(Endless) else { unreachable!() };
        assert_eq!(summary, "é".repeat(2049));
    }
}
