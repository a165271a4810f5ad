use std::fmt;

/// Why a call did not become a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The manager is shutting down, or has shut down.
    ShuttingDown,
    /// As many tasks run as may run.
    TooManyRunning,
    /// As many tasks of this user run as may run.
    TooManyRunningForUser,
    /// The texts of the description are too long together.
    MetaTooLarge,
    /// There is no tokio runtime to run the task on.
    NoRuntime,
}

impl Refused {
    /// The reasons, in their order.
    pub(super) const ALL: [Self; 5] = [
        Self::ShuttingDown,
        Self::TooManyRunning,
        Self::TooManyRunningForUser,
        Self::MetaTooLarge,
        Self::NoRuntime,
    ];

    /// How many reasons there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// A short name that stays as it is, such as for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::TooManyRunning => "too_many_running",
            Self::TooManyRunningForUser => "too_many_running_for_user",
            Self::MetaTooLarge => "meta_too_large",
            Self::NoRuntime => "no_runtime",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShuttingDown => "the task manager is shutting down",
            Self::TooManyRunning => "too many background tasks are running",
            Self::TooManyRunningForUser => "too many background tasks of this user are running",
            Self::MetaTooLarge => "the description of the call is too long",
            Self::NoRuntime => "there is no tokio runtime to run the background task on",
        })
    }
}

impl std::error::Error for Refused {}

/// Work that was not admitted, and why: the work is given back, nothing is lost.
pub struct Rejected<F> {
    refused: Refused,
    work: F,
}

impl<F> Rejected<F> {
    pub(super) const fn new(refused: Refused, work: F) -> Self {
        Self { refused, work }
    }

    /// Why.
    pub const fn refused(&self) -> Refused {
        self.refused
    }

    /// The work.
    pub fn into_inner(self) -> F {
        self.work
    }
}

impl<F> fmt::Debug for Rejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rejected").field(&self.refused).finish()
    }
}

impl<F> fmt::Display for Rejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

impl<F> std::error::Error for Rejected<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.refused)
    }
}
