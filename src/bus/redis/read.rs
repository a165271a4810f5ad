//! Reads the tasks of a user as the server sends them: copied is only what stays.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;

use super::super::{BusError, Result, StoredTask};
use super::answer::decode;
use super::record::{Head, Stored, from_micros, read_will, unknown_members};
use crate::log_limit::LogLimit;
use crate::task::TaskId;

/// Which owners hold their lease.
pub(super) struct Alive {
    pub(super) owners: Vec<String>,
    /// They had the time to renew it.
    pub(super) certain: bool,
}

impl Alive {
    pub(super) const fn unknown() -> Self {
        Self { owners: Vec::new(), certain: false }
    }
}

/// A task with what else is there of it.
pub(super) struct Field<'a> {
    id: &'a str,
    head: Head<'a>,
    json: &'a str,
    stop: Option<&'a str>,
    will: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// What cannot be read is no task, and must not hide those that are.
    pub(super) fn new(id: &'a str, value: &'a str) -> Option<Self> {
        let (head, json) = Head::read(value).inspect_err(|error| skipped(id, error)).ok()?;
        Some(Self { id, head, json, stop: None, will: None })
    }

    /// Adds the time at which its stop was first asked for, and its last will.
    pub(super) const fn with(mut self, stop: Option<&'a str>, will: Option<&'a str>) -> Self {
        self.stop = stop;
        self.will = will;
        self
    }

    /// The task. It shares its description and its owner with `like` if they are the same.
    pub(super) fn read(self, alive: &Alive, like: Option<&StoredTask>) -> Option<StoredTask> {
        let Self { id, head, json, stop, will } = self;
        let read = Stored::read(json, like.map(|like| &like.record.meta));
        let mut record = read.inspect_err(|error| skipped(id, error)).ok()?;
        if !record.status.is_terminal() {
            let stop = stop.and_then(|at| at.parse().ok()).map(from_micros);
            record.cancel_requested_at = record.cancel_requested_at.or(stop);
        }
        let last_will = will
            .and_then(|will| read_will(will, &record).inspect_err(|error| unreadable_will(id, error)).ok());
        let owner_alive = !alive.certain || alive.owners.iter().any(|owner| *owner == head.owner);
        let owner = match like {
            Some(like) if *like.owner == *head.owner => Arc::clone(&like.owner),
            _ => head.owner.into(),
        };
        let Head { version, position, .. } = head;
        // Only a repair needs them.
        let is_lost = !owner_alive && !record.status.is_terminal();
        let unknown_members = if is_lost { unknown_members(json) } else { None };
        Some(StoredTask { record, owner, version, position, unknown_members, owner_alive, last_will })
    }
}

/// Each read meets such an entry again, and reads are up to clients.
fn skipped(id: &str, error: &BusError) {
    static LINES: LogLimit = LogLimit::new();
    LINES.write(|left_out| {
        tracing::error!(task_id = id, %error, left_out, "an entry of the directory cannot be read and is skipped");
    });
}

fn unreadable_will(id: &str, error: &BusError) {
    static LINES: LogLimit = LogLimit::new();
    LINES.write(|left_out| tracing::error!(task_id = id, %error, left_out, "a last will cannot be read"));
}

/// The fields of a hash.
pub(super) fn fields(operation: &'static str, answer: Value) -> Result<Vec<(Value, Value)>> {
    match answer {
        Value::Map(fields) => Ok(fields),
        other => decode(operation, other),
    }
}

/// All tasks of a user, in the order of their positions.
pub(super) fn tasks<'a>(fields: &'a [(Value, Value)], alive: &Alive) -> Vec<StoredTask> {
    let (mut found, mut stops, mut wills) = (Vec::new(), HashMap::new(), HashMap::new());
    for (field, value) in fields {
        let Value::BulkString(field) = field else { continue };
        if field.len() == TaskId::TEXT_LEN {
            found.extend(text(field).zip(bulk(value)).and_then(|(id, value)| Field::new(id, value)));
        } else if let Some(id) = field.strip_prefix(b"s:") {
            stops.insert(id, value);
        } else if let Some(id) = field.strip_prefix(b"w:") {
            wills.insert(id, value);
        }
    }
    // Before they are read, while they are small.
    found.sort_unstable_by_key(|field| (field.head.position, field.id));
    let mut tasks: Vec<StoredTask> = Vec::with_capacity(found.len());
    for field in found {
        let of =
            |kind: &HashMap<&[u8], &'a Value>| kind.get(field.id.as_bytes()).and_then(|value| bulk(value));
        let (stop, will) = (of(&stops), of(&wills));
        let task = field.with(stop, will).read(alive, tasks.last());
        tasks.extend(task);
    }
    tasks
}

fn bulk(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => text(bytes),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
