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
        /// What went wrong, as the work says it. The manager keeps the first [`Outcome::MAX_ERROR_CHARS`] characters of
        /// what its rule for [secrets](crate::redact) leaves of it. This text is longer, for what the rule removes.
        summary: String,
    },
    /// It noticed that it should stop, and did so before its end. Only for work that watches its cancellation token:
    /// without a stop request this counts as a failure.
    Cancelled,
}

impl Outcome {
    /// The longest error text of a record, in characters (code points).
    pub const MAX_ERROR_CHARS: usize = 512;

    /// How many times as many characters are rendered and looked at for secrets.
    pub(crate) const WINDOW: usize = 4;

    /// A failure of the kind [`FailureReason::Error`].
    pub fn failed(summary: impl fmt::Display) -> Self {
        Self::failed_as(FailureReason::Error, summary)
    }

    pub(crate) fn failed_as(reason: FailureReason, summary: impl fmt::Display) -> Self {
        // One more than the manager looks at, so that the manager can tell a cut text from a whole one.
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

/// What the future of a registered task may return to say how it ended.
///
/// `()` is a success, `Ok` is a success, `Err` is a failure with the error's text, and an [`Outcome`] is itself.
pub trait IntoOutcome {
    /// The outcome.
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
