//! A process of the real AgentScope, driven by JSON lines; `peer.py` says what it can do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, watch};

pub(crate) struct Peer {
    child: Child,
    stdin: Mutex<ChildStdin>,
    commands: AtomicU64,
    said: watch::Receiver<Said>,
}

/// What the peer has said so far.
#[derive(Default)]
struct Said {
    answers: HashMap<u64, Result<Value, String>>,
    events: Vec<Value>,
    log: Vec<String>,
    /// How many of its two outputs have ended.
    ended: u8,
}

use crate::patience::PATIENCE;

impl Peer {
    /// Starts one. When this returns its subscriptions are acknowledged.
    pub(crate) async fn start(redis: &str) -> Self {
        let mut child = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peer.py"))
            .arg(redis)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, said) = watch::channel(Said::default());
        read(child.stdout.take().unwrap(), sender.clone(), |said, line| {
            let mut line: Value = serde_json::from_str(&line).unwrap();
            match line["id"].as_u64() {
                Some(id) => {
                    let answer = match line["error"].as_str() {
                        Some(error) => Err(error.to_owned()),
                        None => Ok(line["ok"].take()),
                    };
                    said.answers.insert(id, answer);
                }
                None => said.events.push(line),
            }
        });
        read(child.stderr.take().unwrap(), sender, |said, line| said.log.push(line));
        let stdin = Mutex::new(child.stdin.take().unwrap());
        let peer = Self { child, stdin, commands: AtomicU64::new(0), said };
        peer.event("ready", |_| true).await;
        peer
    }

    /// Waits until what was said is as it should be.
    async fn until(&self, what: &str, mut is: impl FnMut(&Said) -> bool) {
        let mut said = self.said.clone();
        let waiting = said.wait_for(|said| is(said) || said.ended == 2);
        let waited = tokio::time::timeout(PATIENCE, waiting).await.map(|said| is(&said.unwrap()));
        assert!(matches!(waited, Ok(true)), "no {what} from the peer, which says: {:#?}", self.log());
    }

    /// Gives a command and waits for its answer.
    pub(crate) async fn try_call(&self, name: &str, arguments: Value) -> Result<Value, String> {
        let id = self.commands.fetch_add(1, Ordering::Relaxed);
        let Value::Object(mut command) = arguments else { panic!("arguments are an object") };
        command.extend(Map::from_iter([("id".to_owned(), json!(id)), ("do".to_owned(), json!(name))]));
        let line = format!("{}\n", Value::Object(command));
        self.stdin.lock().await.write_all(line.as_bytes()).await.unwrap();
        self.until(&format!("answer to {name}"), |said| said.answers.contains_key(&id)).await;
        self.said.borrow().answers[&id].clone()
    }

    /// Gives a command that works.
    pub(crate) async fn call(&self, name: &str, arguments: Value) -> Value {
        self.try_call(name, arguments).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An operation of AgentScope's bus.
    pub(crate) async fn bus(&self, op: &str, args: Value) -> Value {
        self.call("bus", json!({"op": op, "args": args})).await
    }

    /// A command of Redis as it is, on a connection of the peer.
    pub(crate) async fn redis(&self, args: &[&str]) -> Value {
        self.call("redis", json!({ "args": args })).await
    }

    /// Registers a task that goes on until the gate of its session opens, and answers its id.
    pub(crate) async fn register(&self, session: &str) -> String {
        let task = self.call("register", json!({"session": session, "gate": session})).await;
        task.as_str().unwrap().to_owned()
    }

    /// How a registered task has ended.
    pub(crate) async fn ended(&self, task_id: &str) -> String {
        let event = self.event("ended", |event| event["task_id"] == task_id).await;
        event["how"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn open(&self, gate: &str) {
        self.call("open", json!({ "gate": gate })).await;
    }

    /// What AgentScope's ToolStop answers: state and text.
    pub(crate) async fn tool_stop(&self, session: &str, task_id: &str) -> (String, String) {
        let answer = self.call("tool_stop", json!({"session": session, "task_id": task_id})).await;
        (answer["state"].as_str().unwrap().to_owned(), answer["text"].as_str().unwrap().to_owned())
    }

    /// The hints in the inbox, as AgentScope reads them.
    pub(crate) async fn drain(&self, session: &str) -> Vec<Value> {
        array(self.call("drain", json!({ "session": session })).await)
    }

    /// Takes what is in the queue of wakeups.
    pub(crate) async fn wakeups(&self) -> Vec<Value> {
        let entries = self.bus("queue_drain", json!(["agentscope:wakeups"])).await;
        array(entries).into_iter().map(|mut entry| entry[1].take()).collect()
    }

    /// The first event of that name that is as it should be, be it past or to come.
    pub(crate) async fn event(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.until(&format!("event {name}"), |said| {
            found = said.events.iter().find(|event| event["event"] == name && is(event)).cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until there are so many events of that name.
    pub(crate) async fn until_events(&self, name: &str, count: usize) {
        let of_name = |event: &&Value| event["event"] == name;
        self.until(&format!("{count} events {name}"), |said| {
            said.events.iter().filter(of_name).count() >= count
        })
        .await;
    }

    /// The events of that name until now.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        self.said.borrow().events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.said.borrow().log.clone()
    }

    /// That all of its loops are alive and nothing has gone wrong in them.
    pub(crate) async fn is_unharmed(&self) {
        let loops = self.call("subscribed", json!({})).await;
        let dead: Vec<_> = loops.as_object().unwrap().iter().filter(|(_, lives)| **lives != true).collect();
        let log = self.log();
        let trouble = ["ERROR", "WARNING", "Traceback"];
        let trouble: Vec<_> =
            log.iter().filter(|line| trouble.iter().any(|word| line.contains(word))).collect();
        assert!(dead.is_empty() && trouble.is_empty(), "{dead:?} {trouble:#?}\n{log:#?}");
    }

    /// Ends it in good order.
    pub(crate) async fn quit(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Hands each line to `take`, to the end.
fn read(
    output: impl AsyncRead + Send + Unpin + 'static,
    said: watch::Sender<Said>,
    take: impl Fn(&mut Said, String) + Send + 'static,
) {
    let mut lines = BufReader::new(output).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            said.send_modify(|said| take(said, line));
        }
        said.send_modify(|said| said.ended += 1);
    });
}

/// The Python that has AgentScope.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("INTEROP_PYTHON") {
        return python.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join("target/interop-venv");
    let there = std::fs::read(venv.join("requirements.txt")).ok();
    let files = ["requirements.txt", "server.txt"].map(|file| root.join("tests/interop").join(file));
    let wanted = files.map(|file| std::fs::read(file).unwrap()).concat();
    assert!(
        there == Some(wanted),
        "AgentScope is not there, or not as it should be: run tests/interop/venv.sh once, or set INTEROP_PYTHON to a \
         Python that has what tests/interop/requirements.txt says"
    );
    venv.join("bin/python")
}

pub(crate) fn array(value: Value) -> Vec<Value> {
    let Value::Array(items) = value else { panic!("not an array: {value}") };
    items
}
