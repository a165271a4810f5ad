//! How a task is written in the directory: a head that scripts can read, and the record as JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::{BusError, Delivery, Result};
use crate::task::{FailureReason, TaskId, TaskMeta, TaskRecord, TaskStatus};

/// What is before the JSON: `version status position length owner`, with the length of the owner's name in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) version: u64,
    pub(super) position: u64,
    pub(super) owner: &'a str,
}

/// The record. Times are microseconds since the Unix epoch; what is not there is left out.
///
/// Its texts are borrowed: written they are the record's, and read they are what the server sent, as far as that
/// needs no unescaping.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored<'a> {
    id: TaskId,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    session_id: Text<'a>,
    #[serde(borrow)]
    agent_id: Text<'a>,
    #[serde(borrow)]
    tool_name: Text<'a>,
    #[serde(borrow)]
    summary: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    call_id: Option<Text<'a>>,
    status: TaskStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_reason: Option<FailureReason>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error_summary: Option<Text<'a>>,
    started_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_requested_at: Option<u64>,
}

impl<'a> Stored<'a> {
    pub(super) fn of(record: &'a TaskRecord) -> Self {
        let meta = &record.meta;
        Self {
            id: record.id,
            user_id: Text::of(&meta.user_id),
            session_id: Text::of(&meta.session_id),
            agent_id: Text::of(&meta.agent_id),
            tool_name: Text::of(&meta.tool_name),
            summary: Text::of(&meta.summary),
            call_id: meta.call_id.as_deref().map(Text::of),
            status: record.status,
            failure_reason: record.failure_reason,
            error_summary: record.error_summary.as_deref().map(Text::of),
            started_at: micros(record.started_at),
            completed_at: record.completed_at.map(micros),
            cancel_requested_at: record.cancel_requested_at.map(micros),
        }
    }

    /// Reads a field of the directory. The record shares the texts that it has in common with `like`: most tasks of a
    /// user are much alike.
    pub(super) fn read(value: &'a str, like: Option<&TaskMeta>) -> Result<(Head<'a>, TaskRecord)> {
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
        Ok((Head { version, position, owner }, stored.into_record(like)))
    }

    fn into_record(self, like: Option<&TaskMeta>) -> TaskRecord {
        let meta = TaskMeta {
            user_id: self.user_id.shared(like.map(|like| &like.user_id)),
            session_id: self.session_id.shared(like.map(|like| &like.session_id)),
            agent_id: self.agent_id.shared(like.map(|like| &like.agent_id)),
            tool_name: self.tool_name.shared(like.map(|like| &like.tool_name)),
            summary: self.summary.shared(like.map(|like| &like.summary)),
            call_id: self.call_id.map(|text| text.shared(None)),
        };
        TaskRecord {
            status: self.status,
            failure_reason: self.failure_reason,
            error_summary: self.error_summary.map(|text| text.shared(None)),
            completed_at: self.completed_at.map(from_micros),
            cancel_requested_at: self.cancel_requested_at.map(from_micros),
            ..TaskRecord::running(self.id, meta, from_micros(self.started_at))
        }
    }
}

/// A last will, as [`Delivery`] is written.
#[derive(Debug, Deserialize)]
struct Will<'a> {
    #[serde(borrow)]
    dedupe_key: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    session_id: Text<'a>,
    #[serde(borrow)]
    agent_id: Text<'a>,
    payload: String,
}

/// Reads the last will of the task that `meta` describes, and shares its texts.
pub(super) fn read_will(json: &str, meta: &TaskMeta) -> serde_json::Result<Delivery> {
    let Will { dedupe_key, user_id, session_id, agent_id, payload } = serde_json::from_str(json)?;
    Ok(Delivery {
        dedupe_key: dedupe_key.shared(None),
        user_id: user_id.shared(Some(&meta.user_id)),
        session_id: session_id.shared(Some(&meta.session_id)),
        agent_id: agent_id.shared(Some(&meta.agent_id)),
        payload,
    })
}

/// A type of its own, because an optional `Cow` is never borrowed when it is read.
#[derive(Debug, Serialize, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Text<'a> {
    const fn of(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    fn shared(self, like: Option<&Arc<str>>) -> Arc<str> {
        match like {
            Some(like) if **like == *self.0 => Arc::clone(like),
            _ => self.0.into(),
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
            assert!(Stored::read(value, None).is_err(), "{value}");
        }
    }
}
