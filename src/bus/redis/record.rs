//! How a task is written in the directory: a head that scripts can read, and the record as JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::{BusError, Delivery, Result};
use crate::task::{FailureReason, Parts, TaskId, TaskMeta, TaskRecord, TaskStatus};

const READ: &str = "read an entry of the directory";

/// What is before the JSON: `version status position length owner`, with the length of the owner's name in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) version: u64,
    pub(super) position: u64,
    pub(super) owner: &'a str,
}

impl<'a> Head<'a> {
    /// Reads the head of a field, and returns it with the JSON that comes after it.
    pub(super) fn read(value: &'a str) -> Result<(Self, &'a str)> {
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
        Ok((Self { version, position, owner }, json))
    }
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
    #[serde(borrow)]
    status: Text<'a>,
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
            user_id: Text::of(meta.user_id()),
            session_id: Text::of(meta.session_id()),
            agent_id: Text::of(meta.agent_id()),
            tool_name: Text::of(meta.tool_name()),
            summary: Text::of(meta.summary()),
            call_id: meta.call_id().map(Text::of),
            status: Text::of(record.status.as_str()),
            failure_reason: record.failure_reason,
            error_summary: record.error_summary.as_deref().map(Text::of),
            started_at: micros(record.started_at),
            completed_at: record.completed_at.map(micros),
            cancel_requested_at: record.cancel_requested_at.map(micros),
        }
    }

    /// Reads the JSON of a field. The record shares the description of `like` if it has the same: many
    /// tasks of one user are alike.
    pub(super) fn read(json: &'a str, like: Option<&TaskMeta>) -> Result<TaskRecord> {
        let stored: Self = serde_json::from_str(json).map_err(|error| BusError::new(READ, error))?;
        Ok(stored.into_record(like))
    }

    /// What the row says about the end of the task. A newer version may write a status that this one does not know. No
    /// row is lost for that: a task that has an end did not complete as far as this version knows, so it is `failed`
    /// with the name of that status as the reason; a task without an end is `running`.
    fn end(&self) -> (TaskStatus, Option<FailureReason>) {
        let name = &*self.status.0;
        match TaskStatus::ALL.into_iter().find(|status| status.as_str() == name) {
            Some(status) => (status, self.failure_reason),
            None if self.completed_at.is_none() => (TaskStatus::Running, None),
            None => (TaskStatus::Failed, self.failure_reason.or_else(|| Some(name.into()))),
        }
    }

    fn into_record(self, like: Option<&TaskMeta>) -> TaskRecord {
        let parts = Parts {
            user_id: &*self.user_id.0,
            session_id: &*self.session_id.0,
            agent_id: &*self.agent_id.0,
            tool_name: &*self.tool_name.0,
            summary: &*self.summary.0,
            call_id: self.call_id.as_ref().map(|text| &*text.0),
        };
        let meta = match like {
            Some(like) if like.parts() == parts => like.clone(),
            _ => TaskMeta::from_parts(parts),
        };
        let (status, failure_reason) = self.end();
        TaskRecord {
            status,
            failure_reason,
            error_summary: self.error_summary.map(|text| text.shared(None)),
            completed_at: self.completed_at.map(from_micros),
            cancel_requested_at: self.cancel_requested_at.map(from_micros),
            ..TaskRecord::running(self.id, meta, from_micros(self.started_at))
        }
    }
}

/// The members that [`Stored`] has.
const MEMBERS: [&str; 13] = [
    "id",
    "user_id",
    "session_id",
    "agent_id",
    "tool_name",
    "summary",
    "call_id",
    "status",
    "failure_reason",
    "error_summary",
    "started_at",
    "completed_at",
    "cancel_requested_at",
];

/// The members of a stored record that this version does not know, as a JSON object.
pub(super) fn unknown_members(json: &str) -> Option<Arc<str>> {
    let mut members: Map<String, Value> = serde_json::from_str(json).ok()?;
    members.retain(|name, _| !MEMBERS.contains(&&**name));
    if members.is_empty() { None } else { serde_json::to_string(&members).ok().map(Arc::from) }
}

/// A record as it is stored, with the members that a newer version wrote.
pub(super) fn write(operation: &'static str, record: &TaskRecord, unknown: Option<&str>) -> Result<String> {
    let mut json = json(operation, &Stored::of(record))?;
    if let Some(members) = unknown.and_then(|unknown| unknown.strip_prefix('{')) {
        // In place of the closing brace; the members bring their own.
        json.pop();
        json.push(',');
        json.push_str(members);
    }
    Ok(json)
}

/// Where a last will goes, if not to where the task says.
#[derive(Debug, Serialize, Deserialize)]
struct WillHead<'a> {
    #[serde(borrow)]
    dedupe_key: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    session_id: Text<'a>,
    #[serde(borrow)]
    agent_id: Text<'a>,
}

/// A last will as it is written: the head as JSON, or nothing for the session of the task and its id; a line feed; and
/// the payload as it is. That is JSON already, and would be longer and more work as a text in JSON.
pub(super) fn will(operation: &'static str, will: &Delivery, record: &TaskRecord) -> Result<String> {
    let Delivery { dedupe_key, user_id, session_id, agent_id, payload } = will;
    let meta = &record.meta;
    let is_plain = (&**user_id, &**session_id, &**agent_id)
        == (meta.user_id(), meta.session_id(), meta.agent_id())
        && **dedupe_key == *record.id.to_string();
    let mut will = if is_plain {
        String::with_capacity(1 + payload.len())
    } else {
        let [dedupe_key, user_id, session_id, agent_id] =
            [dedupe_key, user_id, session_id, agent_id].map(|text| Text::of(text));
        json(operation, &WillHead { dedupe_key, user_id, session_id, agent_id })?
    };
    will.push('\n');
    will.push_str(payload);
    Ok(will)
}

/// Reads the last will of a task.
pub(super) fn read_will(will: &str, record: &TaskRecord) -> Result<Delivery> {
    const READ: &str = "read a last will";
    let (head, payload) = will.split_once('\n').ok_or_else(|| BusError::new(READ, "it has no payload"))?;
    let plain = Delivery::new(record.id.to_string(), &record.meta, payload.to_owned());
    if head.is_empty() {
        return Ok(plain);
    }
    let WillHead { dedupe_key, user_id, session_id, agent_id } =
        serde_json::from_str(head).map_err(|error| BusError::new(READ, error))?;
    Ok(Delivery {
        dedupe_key: dedupe_key.shared(None),
        user_id: user_id.shared(Some(&plain.user_id)),
        session_id: session_id.shared(Some(&plain.session_id)),
        agent_id: agent_id.shared(Some(&plain.agent_id)),
        ..plain
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

fn json(operation: &'static str, value: &impl Serialize) -> Result<String> {
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
    use std::collections::BTreeSet;

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
            let read = Head::read(value).and_then(|(_, json)| Stored::read(json, None));
            assert!(read.is_err(), "{value}");
        }
    }

    #[test]
    fn unknown_members_are_those_that_a_full_record_does_not_have() {
        let meta = TaskMeta::new("alice", "Bash").with_call_id("c1");
        let record = TaskRecord {
            cancel_requested_at: Some(UNIX_EPOCH),
            ..TaskRecord::running(TaskId::new(), meta, UNIX_EPOCH).lost(UNIX_EPOCH)
        };
        let plain = write("write", &record, None).unwrap();
        let members: Map<String, Value> = serde_json::from_str(&plain).unwrap();
        assert_eq!(members.keys().collect::<BTreeSet<_>>(), MEMBERS.map(str::to_owned).iter().collect());
        assert_eq!(unknown_members(&plain), None);
        let unknown = r#"{"progress":{"done":[1,null]},"retries":18446744073709551615}"#;
        let written = write("write", &record, Some(unknown)).unwrap();
        assert_eq!(unknown_members(&written).as_deref(), Some(unknown));
        assert_eq!(Stored::read(&written, None).unwrap(), record);
    }

    #[test]
    fn a_last_will_is_read_as_it_was_written() {
        let meta = TaskMeta::new("alice", "Bash").with_session("s1").with_agent("a1");
        let record = TaskRecord::running(TaskId::new(), meta.clone(), UNIX_EPOCH);
        let plain = Delivery::new(record.id.to_string(), &meta, "{\"a\":\n1}\n".to_owned());
        assert!(will("write", &plain, &record).unwrap().starts_with("\n{"));
        let elsewhere = meta.with_session("s\n\"2\"");
        for written in [
            plain.clone(),
            Delivery { payload: String::new(), ..plain.clone() },
            Delivery { dedupe_key: "other".into(), ..plain.clone() },
            Delivery::new("", &elsewhere, plain.payload),
        ] {
            let text = will("write", &written, &record).unwrap();
            assert_eq!(read_will(&text, &record).unwrap(), written);
        }
        for text in ["", "{}", "{}\n{}", "x\n{}"] {
            assert!(read_will(text, &record).is_err(), "{text:?}");
        }
    }
}
