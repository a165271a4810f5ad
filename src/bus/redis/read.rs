//! Reads the tasks of a user as the server sends them: copied is only what stays.

use std::collections::HashMap;

use redis::Value;

use super::super::{Result, StoredTask};
use super::client::decode;
use super::record::{Stored, from_micros, read_will};
use crate::task::{TaskId, TaskMeta};

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
    pub(super) id: &'a str,
    pub(super) value: &'a str,
    pub(super) stop: Option<&'a str>,
    pub(super) will: Option<&'a str>,
}

impl Field<'_> {
    /// What cannot be read is no task, and must not hide those that are.
    pub(super) fn read(&self, alive: &Alive, like: Option<&TaskMeta>) -> Option<StoredTask> {
        let Self { id, value, stop, will } = *self;
        let read = Stored::read(value, like).inspect_err(|error| {
            tracing::error!(task_id = id, %error, "an entry of the directory cannot be read and is skipped");
        });
        let (head, mut record) = read.ok()?;
        if !record.status.is_terminal() {
            let stop = stop.and_then(|at| at.parse().ok()).map(from_micros);
            record.cancel_requested_at = record.cancel_requested_at.or(stop);
        }
        let last_will = will.and_then(|will| {
            read_will(will, &record.meta)
                .inspect_err(|error| tracing::error!(task_id = id, %error, "a last will cannot be read"))
                .ok()
        });
        let owner_alive = !alive.certain || alive.owners.iter().any(|owner| *owner == head.owner);
        Some(StoredTask {
            record,
            owner: head.owner.into(),
            version: head.version,
            position: head.position,
            owner_alive,
            last_will,
        })
    }
}

/// The fields of a hash.
pub(super) fn fields(operation: &'static str, answer: Value) -> Result<Vec<(Value, Value)>> {
    match answer {
        Value::Map(fields) => Ok(fields),
        other => decode(operation, other),
    }
}

/// All tasks of a user, in the order of their positions.
pub(super) fn tasks(fields: &[(Value, Value)], alive: &Alive) -> Vec<StoredTask> {
    let (mut ids, mut stops, mut wills) = (Vec::new(), HashMap::new(), HashMap::new());
    for (field, value) in fields {
        let (Some(field), Some(value)) = (text(field), text(value)) else { continue };
        if field.len() == TaskId::TEXT_LEN {
            ids.push((field, value));
        } else if let Some(id) = field.strip_prefix("s:") {
            stops.insert(id, value);
        } else if let Some(id) = field.strip_prefix("w:") {
            wills.insert(id, value);
        }
    }
    let mut tasks: Vec<StoredTask> = Vec::with_capacity(ids.len());
    for (id, value) in ids {
        let field = Field { id, value, stop: stops.get(id).copied(), will: wills.get(id).copied() };
        let like = tasks.last().map(|task| &task.record.meta);
        tasks.extend(field.read(alive, like));
    }
    tasks.sort_unstable_by_key(|task| (task.position, task.record.id));
    tasks
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
