use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use redis::Value;

use super::super::directory::{
    Directory, DirectoryWritten, KEY_SLACK, OwnerLease, Retention, StoredTask, TaskCheck, TaskWrite,
    TaskWritten, key_ttl,
};
use super::super::message::RegistryEntry;
use super::super::{Result, keys, python};
use super::RedisBus;
use super::answer::decode;
use super::client::Step;
use super::read::{self, Alive, Field};
use super::record::{self, from_micros, micros, will};
use super::registry::SET;
use super::scripts::{ALIVE, CHECK, LEASE, STOP, WRITE};
use super::ttl;
use crate::log_limit::LogLimit;
use crate::task::{TaskId, TaskRecord};

const WRITE_TASKS: &str = "write to the directory";
const READ_TASKS: &str = "read the directory";
const CHECK_TASKS: &str = "check the tasks in the directory";

#[async_trait]
impl Directory for RedisBus {
    async fn write(
        &self,
        lease: &OwnerLease,
        retention: &Retention,
        writes: &[TaskWrite],
    ) -> Result<DirectoryWritten> {
        let mut steps = Vec::with_capacity(1 + 2 * writes.len());
        steps.push(Step::Script(
            LEASE.call().key(self.owners()).arg(&*lease.owner).arg(lease.ttl.as_millis().to_string()),
        ));
        let oldest = retention.time.and_then(|time| SystemTime::now().checked_sub(time)).map_or(0, micros);
        let live = ttl::argument(key_ttl(retention));
        for write in writes {
            let TaskWrite {
                record,
                version,
                expected_owner,
                position,
                unknown_members,
                must_exist,
                last_will,
            } = write;
            let json = record::write(WRITE_TASKS, record, unknown_members.as_deref())?;
            let will = match last_will {
                Some(will) if !record.status.is_terminal() => self::will(WRITE_TASKS, will, record)?,
                _ => String::new(),
            };
            steps.push(Step::Script(
                WRITE
                    .call()
                    .key(self.tasks_of(record.meta.user_id()))
                    .arg(record.id.to_string())
                    .arg(&*lease.owner)
                    .arg(&**expected_owner)
                    .arg(version.to_string())
                    .arg(record.status.as_str())
                    .arg(json)
                    .arg(will)
                    .arg(position.unwrap_or_default().to_string())
                    .arg(retention.max_per_user.to_string())
                    .arg(oldest.to_string())
                    .arg(record.completed_at.map_or(0, micros).to_string())
                    .arg(live.clone())
                    .arg(u8::from(*must_exist).to_string()),
            ));
            steps.push(self.list_in_session(record)?);
        }
        let mut answers = self.client().pipeline(WRITE_TASKS, steps).await?.into_iter();
        self.inner.settled.observe(&self.client().link().contact(), None);
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let held: bool = decode(WRITE_TASKS, next())?;
        let mut tasks = Vec::with_capacity(writes.len());
        for write in writes {
            let (answer, listed) = (next(), next());
            tasks.push(written(&write.record, answer)?);
            // The task is there for us; AgentScope sees it when its owner checks it next.
            if let Err(error) = decode::<Value>(WRITE_TASKS, listed) {
                static LINES: LogLimit = LogLimit::new();
                LINES.write(|left_out| {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        task_id = %write.record.id,
                        left_out,
                        "a task is not listed in its session as it should be"
                    );
                });
            }
        }
        Ok(DirectoryWritten::new(!held, tasks))
    }

    async fn tasks(&self, user_id: &str, lease: Duration) -> Result<Vec<StoredTask>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(&*self.tasks_of(user_id));
        let (fields, alive) = self.read(all, lease).await?;
        Ok(read::tasks(&read::fields(READ_TASKS, fields)?, &alive))
    }

    async fn task(&self, user_id: &str, id: TaskId, lease: Duration) -> Result<Option<StoredTask>> {
        let id = id.to_string();
        let mut fields = redis::cmd("HMGET");
        fields.arg(&*self.tasks_of(user_id)).arg(&*id).arg(format!("s:{id}")).arg(format!("w:{id}"));
        let (fields, alive) = self.read(fields, lease).await?;
        let (value, stop, will): (Option<String>, Option<String>, Option<String>) =
            decode(READ_TASKS, fields)?;
        let field = value.as_deref().and_then(|value| Field::new(&id, value));
        Ok(field.and_then(|field| field.with(stop.as_deref(), will.as_deref()).read(&alive, None)))
    }

    async fn request_stop(&self, user_id: &str, ids: &[TaskId], at: SystemTime) -> Result<()> {
        let mut call = STOP.call().key(self.tasks_of(user_id)).arg(micros(at).to_string());
        for id in ids {
            call = call.arg(id.to_string());
        }
        self.client().script("ask for a stop", call).await
    }

    async fn check(&self, owner: &str, tasks: &[Arc<TaskRecord>]) -> Result<Vec<TaskCheck>> {
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, record) in tasks.iter().enumerate() {
            users.entry(record.meta.user_id()).or_default().push(place);
        }
        let users: Vec<_> = users.into_iter().collect();
        let mut steps = Vec::with_capacity(users.len() + tasks.len());
        for (user_id, places) in &users {
            let mut call = CHECK.call().key(self.tasks_of(user_id)).arg(owner).arg(ttl::argument(KEY_SLACK));
            for place in places {
                call = call.arg(tasks[*place].id.to_string());
            }
            steps.push(Step::Script(call));
        }
        for record in tasks {
            steps.push(self.list_in_session(record)?);
        }
        let answers = self.client().pipeline(CHECK_TASKS, steps).await?;
        let mut checks: Vec<_> = tasks.iter().map(|_| TaskCheck::Held).collect();
        for ((_, places), answer) in users.iter().zip(answers) {
            let found: Vec<Option<String>> = decode(CHECK_TASKS, answer)?;
            for (place, found) in places.iter().zip(found) {
                checks[*place] = checked(&tasks[*place], found);
            }
        }
        Ok(checks)
    }

    async fn forget_will(&self, record: &TaskRecord) -> Result<()> {
        let (mut will, mut entry) = (redis::cmd("HDEL"), redis::cmd("HDEL"));
        will.arg(&*self.tasks_of(record.meta.user_id())).arg(format!("w:{}", record.id));
        entry.arg(&*self.session(record)).arg(record.id.to_string());
        let steps = vec![Step::Command(will), Step::Command(entry)];
        for answer in self.client().pipeline("forget a last will", steps).await? {
            decode::<()>("forget a last will", answer)?;
        }
        Ok(())
    }

    async fn leave(&self, owner: &str) -> Result<()> {
        let mut leave = redis::cmd("ZREM");
        leave.arg(&*self.owners()).arg(owner);
        self.client().query("end a lease", leave).await
    }
}

impl RedisBus {
    fn tasks_of(&self, user_id: &str) -> String {
        self.on_server(&format!("agentscope:offload:tasks:{user_id}")).into_owned()
    }

    fn owners(&self) -> String {
        self.on_server("agentscope:offload:owners").into_owned()
    }

    fn session(&self, record: &TaskRecord) -> String {
        self.on_server(&keys::background_tasks(record.meta.session_id())).into_owned()
    }

    /// Makes the list of the session, as AgentScope has it, what the record says.
    fn list_in_session(&self, record: &TaskRecord) -> Result<Step<'static>> {
        let (session, id) = (self.session(record), record.id.to_string());
        if record.status.is_terminal() {
            let mut remove = redis::cmd("HDEL");
            remove.arg(session).arg(id);
            return Ok(Step::Command(remove));
        }
        let entry = python::to_json(&RegistryEntry::of(record))
            .map_err(|error| super::super::BusError::new(WRITE_TASKS, error))?;
        let live = ttl::argument(keys::BACKGROUND_TASKS_TTL);
        Ok(Step::Script(SET.call().key(session).arg(id).arg(entry).arg(live)))
    }

    /// Reads, and says who is alive, in one round trip.
    async fn read(&self, command: redis::Cmd, lease: Duration) -> Result<(Value, Alive)> {
        let (link, settled) = (self.client().link(), &self.inner.settled);
        let mut steps = vec![Step::Command(command), Step::Script(ALIVE.call().key(self.owners()))];
        let ask = settled.is_news(&link.contact());
        if ask {
            let mut info = redis::cmd("INFO");
            info.arg("server");
            steps.push(Step::Command(info));
        }
        let mut answers = self.client().pipeline(READ_TASKS, steps).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (read, owners) = (next(), decode(READ_TASKS, next())?);
        settled.observe(&link.contact(), ask.then(next));
        Ok((read, Alive { owners, certain: settled.is_settled(lease) }))
    }
}

fn written(record: &TaskRecord, answer: Value) -> Result<TaskWritten> {
    let (done, mut rest): (u8, Vec<Value>) = {
        let mut values: Vec<Value> = decode(WRITE_TASKS, answer)?;
        if values.is_empty() {
            values.push(Value::Int(0));
        }
        let rest = values.split_off(1);
        (decode(WRITE_TASKS, values.remove(0))?, rest)
    };
    rest.resize(2, Value::Nil);
    if done == 1 {
        return Ok(TaskWritten::Written { position: decode(WRITE_TASKS, rest.swap_remove(0))? });
    }
    let will: Option<String> = decode(WRITE_TASKS, rest.remove(1))?;
    let value: Option<String> = decode(WRITE_TASKS, rest.remove(0))?;
    let id = record.id.to_string();
    let field = value.as_deref().and_then(|value| Field::new(&id, value));
    let found = field.and_then(|field| field.with(None, will.as_deref()).read(&Alive::unknown(), None));
    Ok(TaskWritten::Refused { found: found.map(Box::new) })
}

fn checked(record: &TaskRecord, found: Option<String>) -> TaskCheck {
    let Some(found) = found else { return TaskCheck::Missing };
    match found.split_at_checked(1) {
        Some(("s", at)) => TaskCheck::StopRequested(from_micros(at.parse().unwrap_or_default())),
        Some(("l", value)) => {
            let id = record.id.to_string();
            match Field::new(&id, value).and_then(|field| field.read(&Alive::unknown(), None)) {
                Some(found) => TaskCheck::Lost(Box::new(found)),
                None => TaskCheck::Held,
            }
        }
        _ => TaskCheck::Held,
    }
}
