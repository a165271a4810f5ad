//! The processes and their server, and what is on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use redis::{Connection, Value as Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Answer;
use crate::program::{Program, bash, until};
use crate::redis_server::RedisServer;

/// A call that takes longer than any test.
pub(crate) fn forever() -> Value {
    json!({"seconds": 1000})
}

pub(crate) fn sleep(seconds: f64) -> Value {
    json!({ "seconds": seconds })
}

/// How many seconds a call takes that moves to the background and ends soon. The timeout is 0.2 s: on a busy machine the
/// process may be a good deal late to see that it has passed.
pub(crate) const BRIEF: f64 = 1.2;

/// A call that moves to the background and ends soon.
pub(crate) fn brief() -> Value {
    sleep(BRIEF)
}

/// What a command waits for.
pub(crate) struct Gate(TempDir);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The input of a `Bash` call that ends when the gate opens.
    pub(crate) fn command(&self) -> Value {
        bash(format!("until [ -e {} ]; do sleep 0.1; done", self.file().display()))
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.file(), "").unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("open")
    }
}

/// A server, and how its processes are started.
pub(crate) struct Service {
    pub(crate) redis: RedisServer,
    lease_secs: String,
}

impl Service {
    pub(crate) fn new(lease: Duration) -> Self {
        Self::on(RedisServer::start(), lease)
    }

    pub(crate) fn on(redis: RedisServer, lease: Duration) -> Self {
        Self { redis, lease_secs: lease.as_secs_f64().to_string() }
    }

    /// With a server that has been up for so long that its word about leases counts.
    pub(crate) async fn settled(lease: Duration) -> Self {
        let this = Self::new(lease);
        let mut server = this.server();
        until(async || {
            let info: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut server).unwrap();
            let up: u64 = info.get("uptime_in_seconds").unwrap();
            (Duration::from_secs(up) >= lease).then_some(())
        })
        .await;
        this
    }

    pub(crate) async fn start(&self) -> Program {
        self.start_with(&[]).await
    }

    pub(crate) async fn start_with(&self, args: &[&str]) -> Program {
        let url = self.redis.url();
        let mut all = vec!["--redis", &*url, "--lease-secs", &self.lease_secs];
        all.extend(args);
        Program::start(&all).await
    }

    pub(crate) async fn three(&self) -> [Program; 3] {
        self.three_with(&[]).await
    }

    pub(crate) async fn three_with(&self, args: &[&str]) -> [Program; 3] {
        [self.start_with(args).await, self.start_with(args).await, self.start_with(args).await]
    }

    /// A connection of its own, past everything that is tested.
    fn server(&self) -> Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &str, args: &[&str]) -> T {
        redis::cmd(command).arg(args).query(&mut self.server()).unwrap()
    }

    /// The payloads of a stream.
    pub(crate) fn stream(&self, key: &str) -> Vec<Value> {
        let entries: Vec<(String, BTreeMap<String, String>)> = self.ask("XRANGE", &[key, "-", "+"]);
        entries.iter().map(|(_, fields)| serde_json::from_str(&fields["payload"]).unwrap()).collect()
    }

    pub(crate) fn wakeups(&self) -> Vec<Value> {
        self.stream("agentscope:wakeups")
    }

    /// The ids that AgentScope takes for running in a session.
    pub(crate) fn registry(&self, session: &str) -> Vec<String> {
        self.ask("HKEYS", &[&*format!("agentscope:bg_tasks:{session}")])
    }

    /// Last wills of a user's tasks.
    pub(crate) fn wills(&self, user: &str) -> usize {
        let fields: Vec<String> = self.ask("HKEYS", &[&*format!("agentscope:offload:tasks:{user}")]);
        fields.iter().filter(|field| field.starts_with("w:")).count()
    }

    /// Processes that hold a lease, or let it run out.
    pub(crate) fn owners(&self) -> usize {
        self.ask("ZCARD", &["agentscope:offload:owners"])
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.ask::<Reply>("SET", &[key, value]);
    }
}

/// The bodies of one path on all processes; they are the same, byte for byte.
pub(crate) async fn same(processes: &[&Program], user: &str, path: &str) -> Answer {
    let mut answers = Vec::new();
    for process in processes {
        answers.push(process.get(user, path).await);
    }
    let first = answers.remove(0);
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (first.status, first.text()), "{path} of {user}");
    }
    first
}

/// The task in the words of all processes, once all say that it is so.
pub(crate) async fn agreed(
    processes: &[&Program],
    user: &str,
    id: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/background-tasks/{id}");
    for process in processes {
        until(async || {
            let answer = process.get(user, &path).await;
            (answer.status == 200 && is_so(&answer.json())).then_some(())
        })
        .await;
    }
    same(processes, user, &path).await.json()
}

pub(crate) fn is_over(task: &Value) -> bool {
    task["status"] != "running"
}

/// The ids of the tasks that hints are about. The id of a hint is its task's, without the dashes.
pub(crate) fn told(hints: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> =
        hints.iter().map(|hint| hint["id"].as_str().expect("a hint has an id").to_owned()).collect();
    ids.sort();
    ids
}

pub(crate) fn without_dashes<'a>(ids: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.replace('-', "")).collect();
    ids.sort();
    ids
}

/// The hints of a user in a session, once there are so many; it is checked that no more come with them.
pub(crate) async fn hints(process: &Program, user: &str, session: &str, number: usize) -> Vec<Value> {
    let mut all = Vec::new();
    until(async || {
        all.extend(process.drain_in(user, session).await);
        (all.len() >= number).then_some(())
    })
    .await;
    assert_eq!(all.len(), number, "{all:?}");
    all
}
