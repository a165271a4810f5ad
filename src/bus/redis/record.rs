//! How a task is written in the directory: a head that scripts can read, and the record as JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::{BusError, Result};
use crate::task::{FailureReason, TaskId, TaskMeta, TaskRecord, TaskStatus};

/// What is before the JSON: `version status position length owner`, with the length of the owner's name in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) version: u64,
    pub(super) position: u64,
    pub(super) owner: &'a str,
}

/// The record. Times are microseconds since the Unix epoch; what is not there is left out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    id: TaskId,
    user_id: Arc<str>,
    session_id: Arc<str>,
    agent_id: Arc<str>,
    tool_name: Arc<str>,
    summary: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_id: Option<Arc<str>>,
    status: TaskStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_reason: Option<FailureReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_summary: Option<Arc<str>>,
    started_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_requested_at: Option<u64>,
}

impl Stored {
    pub(super) fn of(record: &TaskRecord) -> Self {
        let meta = &record.meta;
        Self {
            id: record.id,
            user_id: Arc::clone(&meta.user_id),
            session_id: Arc::clone(&meta.session_id),
            agent_id: Arc::clone(&meta.agent_id),
            tool_name: Arc::clone(&meta.tool_name),
            summary: Arc::clone(&meta.summary),
            call_id: meta.call_id.clone(),
            status: record.status,
            failure_reason: record.failure_reason,
            error_summary: record.error_summary.clone(),
            started_at: micros(record.started_at),
            completed_at: record.completed_at.map(micros),
            cancel_requested_at: record.cancel_requested_at.map(micros),
        }
    }

    /// Reads a field of the directory.
    pub(super) fn read(value: &str) -> Result<(Head<'_>, TaskRecord)> {
        const READ: &str = "read an entry of the directory";
        let mut parts = value.splitn(5, ' ');
        let mut part = || parts.next().ok_or_else(|| BusError::new(READ, "it has no head"));
        let version = number(READ, part()?)?;
        let _status = part()?;
        let position = number(READ, part()?)?;
        let length = number(READ, part()?)?;
        let rest = part()?;
        let (owner, json) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(|| BusError::new(READ, "it is too short for its owner"))?;
        let stored: Self = serde_json::from_str(json).map_err(|error| BusError::new(READ, error))?;
        Ok((Head { version, position, owner }, stored.into()))
    }
}

impl From<Stored> for TaskRecord {
    fn from(stored: Stored) -> Self {
        let meta = TaskMeta {
            user_id: stored.user_id,
            session_id: stored.session_id,
            agent_id: stored.agent_id,
            tool_name: stored.tool_name,
            summary: stored.summary,
            call_id: stored.call_id,
        };
        Self {
            status: stored.status,
            failure_reason: stored.failure_reason,
            error_summary: stored.error_summary,
            completed_at: stored.completed_at.map(from_micros),
            cancel_requested_at: stored.cancel_requested_at.map(from_micros),
            ..Self::running(stored.id, meta, from_micros(stored.started_at))
        }
    }
}

pub(super) fn json(operation: &'static str, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| BusError::new(operation, error))
}

fn number(operation: &'static str, text: &str) -> Result<u64> {
    text.parse().map_err(|error| BusError::new(operation, error))
}

pub(super) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn from_micros(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_panic() {
        for value in [
            "",
            "1",
            "1 running 2 3",
            "x running 1 1 o {}",
            "1 running 1 9 o {}",
            "1 running 1 1 o {}",
            "1 running 1 2 ü{}",
            "1 running 1 18446744073709551616 o {}",
        ] {
            assert!(Stored::read(value).is_err(), "{value}");
        }
    }
}
