//! Building an example, starting it, talking to it, and making sure that it ends.
#![allow(dead_code, reason = "each test crate uses some of it")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::client::{Answer, Request};

pub(crate) use crate::patience::PATIENCE;

/// Builds an example, so that no stale one is tested, and says where it is.
pub(crate) async fn example(name: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    if let Some(path) = BUILT.lock().unwrap().get(name) {
        return path.clone();
    }
    let mut build = Command::new(env!("CARGO"));
    // The runner of the tests has set these. Build scripts of dependencies read them, and would run again.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            build.env_remove(name);
        }
    }
    build
        .args(["build", "--quiet", "--locked", "--offline", "--features", "full", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Cargo compares the times of files with the clock, which libfaketime may have moved for this process.
        .env_remove("LD_PRELOAD");
    assert!(build.status().await.unwrap().success());
    // This test is target/PROFILE/deps/NAME.
    let deps = std::env::current_exe().unwrap();
    let path = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    BUILT.lock().unwrap().insert(name.to_owned(), path.clone());
    path
}

pub(crate) struct Program {
    pub(crate) address: String,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// An `agent_service` on a free port, that hands over after a fifth of a second.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0", "--timeout-secs", "0.2"];
        all.extend(args);
        Self::run("agent_service", &all).await
    }

    pub(crate) async fn run(name: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(example(name).await).args(args)).await
    }

    /// As the command of another program, such as `unshare`.
    pub(crate) async fn run_below(outer: &[&str], name: &str, args: &[&str]) -> Self {
        let program = example(name).await;
        Self::spawn(Command::new(outer[0]).args(&outer[1..]).arg(program).args(args)).await
    }

    async fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, out.next_line()).await.unwrap().unwrap().unwrap();
        let address = first.strip_prefix("listening on http://").expect("the first line").to_owned();
        Self { address, child, out }
    }

    /// The next line on stdout.
    pub(crate) async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.out.next_line()).await.unwrap().unwrap()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().unwrap().try_into().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Whether it does not listen any more.
    pub(crate) async fn refuses_connections(&self) -> bool {
        tokio::net::TcpStream::connect(&self.address).await.is_err()
    }

    /// Stops time for it. It stands still when this returns, with all its threads.
    pub(crate) async fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.child.id().unwrap());
        let stopped = |thread: &std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('T'))
        };
        until(async || {
            std::fs::read_dir(&threads).unwrap().all(|thread| stopped(&thread.unwrap())).then_some(())
        })
        .await;
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        tokio::time::timeout(PATIENCE, self.child.kill()).await.unwrap().unwrap();
    }

    /// Sends a signal, and answers the exit code and what was still printed.
    pub(crate) async fn end(self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        self.wait().await
    }

    /// Waits for its end, and answers the exit code and what was still printed.
    pub(crate) async fn wait(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        let mut rest = String::new();
        self.out.into_inner().read_to_string(&mut rest).await.unwrap();
        (status.code(), rest)
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        tokio::time::timeout(PATIENCE, request.send(&self.address)).await.unwrap()
    }

    pub(crate) async fn get(&self, user: &str, path: &str) -> Answer {
        self.send(Request::new("GET", path).header("X-User-ID", user)).await
    }

    /// Calls a tool in session `s1` as `call_1` of `agent`.
    pub(crate) async fn call(&self, user: &str, tool: &str, input: Value) -> Answer {
        self.send(tool_call(user, "s1", tool, &input)).await
    }

    /// Calls a tool that takes too long, and answers the id of its task.
    pub(crate) async fn offload(&self, user: &str, tool: &str, input: Value) -> String {
        self.offload_in(user, "s1", tool, input).await
    }

    pub(crate) async fn offload_in(&self, user: &str, session: &str, tool: &str, input: Value) -> String {
        let answer = self.send(tool_call(user, session, tool, &input)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["metadata"]["task_id"].as_str().expect("a task id").to_owned()
    }

    pub(crate) async fn task(&self, user: &str, id: &str) -> Value {
        let answer = self.get(user, &format!("/background-tasks/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The task, once it has ended.
    pub(crate) async fn ended(&self, user: &str, id: &str) -> Value {
        until(async || Some(self.task(user, id).await).filter(|task| task["status"] != "running")).await
    }

    pub(crate) async fn drain(&self, user: &str) -> Vec<Value> {
        self.drain_in(user, "s1").await
    }

    /// The hints in an inbox, which are acknowledged.
    pub(crate) async fn drain_in(&self, user: &str, session: &str) -> Vec<Value> {
        let mut hints = self.peek_in(user, session, "").await;
        if let Some(last) = hints.last() {
            self.peek_in(user, session, &format!("?ack={}", last["id"].as_str().unwrap())).await;
        }
        hints.iter_mut().map(|hint| hint["hint"].take()).collect()
    }

    /// What a drain answers, with the ids of the hints.
    pub(crate) async fn peek_in(&self, user: &str, session: &str, query: &str) -> Vec<Value> {
        let path = format!("/sessions/{session}/inbox/drain{query}");
        let answer = self.send(Request::new("POST", &path).header("X-User-ID", user)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Calls `ToolStop`, and answers what it says.
    pub(crate) async fn stop(&self, user: &str, session: &str, id: &str) -> String {
        let call = tool_call(user, session, "ToolStop", &json!({ "task_id": id }));
        self.send(call).await.json()["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Stops what the user has in a session, and answers how much that was.
    pub(crate) async fn delete(&self, user: &str, session: &str) -> u64 {
        let request = Request::new("DELETE", &format!("/sessions/{session}")).header("X-User-ID", user);
        self.send(request).await.json()["cancelled"].as_u64().unwrap()
    }

    /// The hints of alice, once there are some.
    pub(crate) async fn hints(&self) -> Vec<Value> {
        until(async || Some(self.drain("alice").await).filter(|hints| !hints.is_empty())).await
    }
}

pub(crate) fn tool_call(user: &str, session: &str, tool: &str, input: &Value) -> Request {
    Request::new("POST", &format!("/sessions/{session}/tools/{tool}"))
        .header("X-User-ID", user)
        .header("X-Tool-Call-ID", "call_1")
        .body(input.to_string())
}

pub(crate) fn bash(command: impl Into<String>) -> Value {
    json!({ "command": command.into() })
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(10));
    let asking = async {
        loop {
            again.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it should have happened by now")
}

/// Whether a process is there (and is not one that has ended and only waits to be noticed).
pub(crate) fn lives(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state
        .rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}
