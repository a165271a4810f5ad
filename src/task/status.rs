use std::fmt;

use serde::{Deserialize, Serialize};

/// What a task is doing, or how it ended.
///
/// A task is `running`, and then has one of the three other states for good. The status says what happened to the future
/// and not what a caller asked for: a task is `cancelled` only when its future has been dropped. The set of states is
/// closed; the set of [reasons](super::FailureReason) may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "api", schema(
    as = BackgroundTaskStatus,
    description = "What a task is doing, or how it ended: it is `running`, then once and for good `completed`, \
                   `failed` or `cancelled`. It says what really happened: a task that was asked to stop is `running` \
                   until its work is gone, and one that ended by itself meanwhile is not `cancelled`.",
))]
pub enum TaskStatus {
    /// The future has not ended. A task that was asked to stop is `running` until its future has ended.
    Running,
    /// The future ended with a success.
    Completed,
    /// The future ended with a failure; the failure reason says which kind.
    Failed,
    /// The future was dropped before its end, because of a stop request or a shutdown.
    Cancelled,
}

impl TaskStatus {
    /// All states, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// Whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Running)
    }

    /// The name that REST bodies and logs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
