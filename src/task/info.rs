use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FailureReason, TaskRecord, TaskStatus};

/// One background task, as a REST client sees it.
///
/// Reading one from JSON accepts what a newer server may answer: members that this version does not know are skipped,
/// and an unknown [`FailureReason`] is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "api",
    schema(
        description = "A call that moved to the background. All members are always there, some of them null.",
    )
)]
pub struct BackgroundTaskInfo {
    /// The id that the caller was given when the call moved to the background. Unguessable; look-ups are scoped by
    /// user all the same.
    #[cfg_attr(feature = "api", schema(examples("5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21")))]
    pub task_id: String,
    /// The session that the call belongs to; empty if there is none.
    #[cfg_attr(feature = "api", schema(examples("session-1")))]
    pub session_id: String,
    /// The agent that made the call; empty if there is none.
    #[cfg_attr(feature = "api", schema(examples("agent-1")))]
    pub agent_id: String,
    /// The tool, route or operation that was called.
    #[cfg_attr(feature = "api", schema(examples("Bash")))]
    pub tool_name: String,
    /// One line about the call; values that look like secrets are redacted.
    #[cfg_attr(feature = "api", schema(max_length = 128, examples("Bash(command=make test)")))]
    pub summary: String,
    /// What the task is doing, or how it ended.
    pub status: TaskStatus,
    /// When the call moved to the background; RFC 3339, UTC.
    #[cfg_attr(feature = "api", schema(format = DateTime, examples("2026-11-22T13:31:32.794120Z")))]
    pub started_at: String,
    /// When the task ended, or null; RFC 3339, UTC.
    #[cfg_attr(feature = "api", schema(required, format = DateTime, examples("2026-11-22T13:32:02.801554Z")))]
    pub completed_at: Option<String>,
    /// What went wrong, at most 512 characters, or null; values that look like secrets are redacted.
    #[cfg_attr(feature = "api", schema(required, max_length = 512, examples("exit status 2")))]
    pub error_summary: Option<String>,
    /// Why the task did not complete, or null.
    #[cfg_attr(feature = "api", schema(required))]
    pub failure_reason: Option<FailureReason>,
    /// When the task was first asked to stop, or null. With status `running` it is stopping; RFC 3339, UTC.
    #[cfg_attr(feature = "api", schema(required, format = DateTime, examples("2026-11-22T13:31:50.000317Z")))]
    pub cancel_requested_at: Option<String>,
    /// The caller's own id for the call, or null.
    #[cfg_attr(feature = "api", schema(required, examples("call_1")))]
    pub call_id: Option<String>,
}

impl From<&TaskRecord> for BackgroundTaskInfo {
    fn from(record: &TaskRecord) -> Self {
        let meta = &record.meta;
        Self {
            task_id: record.id.to_string(),
            session_id: meta.session_id().to_owned(),
            agent_id: meta.agent_id().to_owned(),
            tool_name: meta.tool_name().to_owned(),
            summary: meta.summary().to_owned(),
            status: record.status,
            started_at: rfc3339(record.started_at),
            completed_at: record.completed_at.map(rfc3339),
            error_summary: record.error_summary.as_deref().map(str::to_owned),
            failure_reason: record.failure_reason,
            cancel_requested_at: record.cancel_requested_at.map(rfc3339),
            call_id: meta.call_id().map(str::to_owned),
        }
    }
}

impl From<TaskRecord> for BackgroundTaskInfo {
    fn from(record: TaskRecord) -> Self {
        Self::from(&record)
    }
}

/// The background tasks of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct ListBackgroundTasksResponse {
    /// The tasks, in the order in which they moved to the background.
    pub tasks: Vec<BackgroundTaskInfo>,
    /// The number of tasks.
    #[cfg_attr(feature = "api", schema(value_type = i64, minimum = 0))]
    pub total: usize,
}

impl FromIterator<TaskRecord> for ListBackgroundTasksResponse {
    fn from_iter<I: IntoIterator<Item = TaskRecord>>(records: I) -> Self {
        let tasks: Vec<_> = records.into_iter().map(BackgroundTaskInfo::from).collect();
        Self { total: tasks.len(), tasks }
    }
}

/// RFC 3339 in UTC with six decimals, so that texts of different moments sort like the moments.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    // A clock outside of the years that RFC 3339 can write is wrong, and is no reason to fail the answer.
    let time = Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_microseconds() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        let time = UNIX_EPOCH + Duration::from_micros(1_795_354_291_654_130);
        assert_eq!(rfc3339(time), "2026-11-22T13:31:31.654130Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 50)), "1970-01-01T00:00:00.000000Z");
    }

    /// A client of this version reads what a newer server answers.
    #[test]
    fn unknown_reasons_and_members_are_read() {
        let json = r#"{"task_id":"1","session_id":"","agent_id":"","tool_name":"t","summary":"t","status":"failed",
            "started_at":"a","completed_at":"b","error_summary":null,"failure_reason":"quota_exceeded",
            "cancel_requested_at":null,"call_id":null,"progress":{"done":[1]}}"#;
        let info: BackgroundTaskInfo = serde_json::from_str(json).unwrap();
        assert_eq!(info.failure_reason, Some(FailureReason::from("quota_exceeded")));
        let again = serde_json::to_value(&info).unwrap();
        assert_eq!(again["failure_reason"], "quota_exceeded");
    }
}
