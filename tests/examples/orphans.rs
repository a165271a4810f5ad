//! No command outlives the service, however that ends.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;

use crate::program::{PATIENCE, Program, bash, lives, until};

/// A pipe with a name that processes inherit: its end says that all of them are gone.
struct Lifeline {
    path: PathBuf,
    reader: BufReader<pipe::Receiver>,
    /// Without a writer it would be at its end before it begins.
    first_writer: Option<pipe::Sender>,
    _folder: TempDir,
}

impl Lifeline {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeline");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let reader = BufReader::new(pipe::OpenOptions::new().open_receiver(&path).unwrap());
        let first_writer = Some(pipe::OpenOptions::new().open_sender(&path).unwrap());
        Self { path, reader, first_writer, _folder: folder }
    }

    /// The next line that one of the processes has written.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.reader.read_line(&mut line)).await.unwrap().unwrap();
        line.trim().to_owned()
    }

    /// Waits until all processes are gone that hold it, and answers what they still wrote.
    async fn end(mut self) -> String {
        self.first_writer = None;
        let mut rest = String::new();
        let reading = self.reader.read_to_string(&mut rest);
        tokio::time::timeout(PATIENCE, reading).await.expect("a process lives on").unwrap();
        rest
    }
}

/// Starts processes that leave the group and the session, lose their parents, and hear no SIGTERM. Says the pid of the
/// command's parent when all of them run.
fn family(lifeline: &Lifeline) -> String {
    format!(
        "exec 9> {}; sleep 1000 & setsid sleep 1001 & (setsid bash -c 'sleep 1002 & sleep 1003' &); \
         setsid bash -c 'trap \"\" TERM HUP INT; echo '$PPID' >&9; while :; do sleep 1004; done' & wait",
        lifeline.path.display()
    )
}

async fn start_family(service: &Program) -> (Lifeline, i32) {
    let mut lifeline = Lifeline::new();
    service.offload("alice", "Bash", bash(family(&lifeline))).await;
    let supervisor = lifeline.line().await.parse().unwrap();
    assert!(lives(supervisor));
    (lifeline, supervisor)
}

async fn all_gone((lifeline, supervisor): (Lifeline, i32)) {
    assert_eq!(lifeline.end().await, "");
    until(async || (!lives(supervisor)).then_some(())).await;
}

const QUICK: &[&str] = &["--grace-secs", "0.2", "--shutdown-secs", "0.1"];

#[tokio::test]
async fn a_service_that_is_killed_leaves_no_process() {
    let service = Program::start(QUICK).await;
    let family = start_family(&service).await;
    service.kill().await;
    all_gone(family).await;
}

#[tokio::test]
async fn a_closed_terminal_and_a_signal_leave_no_process() {
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
        let service = Program::start(QUICK).await;
        let family = start_family(&service).await;
        let (code, printed) = service.end(signal).await;
        assert_eq!(code, Some(0), "{signal}");
        assert!(printed.contains("shut down: "), "{signal}: {printed}");
        assert!(!lives(family.1), "{signal}: it waits for what it has started");
        all_gone(family).await;
    }
}

#[tokio::test]
async fn a_second_interrupt_ends_it_at_once() {
    let service = Program::start(&["--grace-secs", "0.2", "--shutdown-secs", "1000"]).await;
    let family = start_family(&service).await;
    service.signal(Signal::SIGINT);
    until(async || service.refuses_connections().await.then_some(())).await;
    let (code, printed) = service.end(Signal::SIGINT).await;
    assert_eq!(code, Some(130));
    assert!(!printed.contains("shut down"), "{printed}");
    all_gone(family).await;
}

#[tokio::test]
async fn a_stop_is_first_a_request() {
    let service = Program::start(&["--grace-secs", "20"]).await;
    for by_session in [false, true] {
        let mut lifeline = Lifeline::new();
        // It tidies up with a command of its own.
        let command = format!(
            "exec 9> {}; trap 'bash -c \"echo tidied\" >&9; exit' TERM; echo ready >&9; sleep 1000 & wait",
            lifeline.path.display()
        );
        let id = service.offload("alice", "Bash", bash(command)).await;
        assert_eq!(lifeline.line().await, "ready");
        if by_session {
            assert_eq!(service.delete("alice", "s1").await, 1);
        } else {
            let said = service.stop("alice", "s1", &id).await;
            assert_eq!(said, format!("Task {id} stopped successfully."));
        }
        assert_eq!(lifeline.end().await, "tidied\n");
        assert_eq!(service.ended("alice", &id).await["status"], "cancelled");
    }
    assert_eq!(service.drain("alice").await, [json!(null); 0], "nothing is said to have completed");
}

#[tokio::test]
async fn a_stop_is_in_the_end_no_request() {
    let service = Program::start(QUICK).await;
    let mut lifeline = Lifeline::new();
    let id = service.offload("alice", "Bash", bash(family(&lifeline))).await;
    let supervisor = lifeline.line().await.parse().unwrap();
    assert_eq!(service.stop("alice", "s1", &id).await, format!("Task {id} stopped successfully."));
    assert_eq!(service.task("alice", &id).await["status"], "cancelled");
    assert_eq!(lifeline.end().await, "");
    until(async || (!lives(supervisor)).then_some(())).await;
}

#[tokio::test]
async fn a_command_that_kills_its_supervisor_fails_and_is_killed() {
    let service = Program::start(QUICK).await;
    let mut lifeline = Lifeline::new();
    let command = format!(
        "exec 9> {}; sleep 1000 & echo ready >&9; kill -9 $PPID; while :; do sleep 1; done",
        lifeline.path.display()
    );
    let answer = service.call("alice", "Bash", bash(command)).await.json();
    assert_eq!(lifeline.line().await, "ready");
    if answer["state"] == "error" {
        assert!(answer.to_string().contains("supervisor"), "{answer}");
    }
    lifeline.end().await;
}

/// The processes below `parent` that have ended, and those that have not.
fn children(parent: i32) -> (Vec<i32>, Vec<i32>) {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
        (fields[1].parse() == Ok(parent)).then(|| (fields[0] == "Z", pid))
    });
    let (ended, alive): (Vec<_>, Vec<_>) = pids.partition(|(ended, _)| *ended);
    let pids = |all: Vec<(bool, i32)>| all.into_iter().map(|(_, pid)| pid).collect();
    (pids(ended), pids(alive))
}

#[tokio::test]
async fn as_process_1_it_reaps_what_others_leave() {
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let probe = std::process::Command::new("unshare").args(&unshare[1..]).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not make a namespace of process ids");
        return;
    }
    let mut args = vec!["--listen", "127.0.0.1:0", "--timeout-secs", "0.2"];
    args.extend(QUICK);
    let service = Program::run_below(&unshare, "agent_service", &args).await;
    let [init] = children(service.pid()).1.try_into().expect("unshare has one child");
    for _ in 0..3 {
        let mut lifeline = Lifeline::new();
        // What loses its supervisor is a child of process 1 from then on.
        let command = format!(
            "exec 9> {}; (sleep 0 &); sleep 1000 & setsid sleep 0.3 & echo ready >&9; kill -9 $PPID; wait",
            lifeline.path.display()
        );
        service.call("alice", "Bash", bash(command)).await;
        assert_eq!(lifeline.line().await, "ready");
        lifeline.end().await;
    }
    until(async || children(init).0.is_empty().then_some(())).await;
    assert_eq!(children(init).1.len(), 1, "the service itself");
    let answer = service.call("alice", "Bash", bash("echo still there")).await.json();
    assert_eq!(answer["content"][0]["text"], "still there\n");
    let family = start_in_namespace(&service).await;
    kill(Pid::from_raw(init), Signal::SIGTERM).unwrap();
    let (code, printed) = service.wait().await;
    assert!(code == Some(0) && printed.contains("shut down: "), "{code:?}: {printed}");
    assert_eq!(family.end().await, "");
}

/// A family whose pids mean nothing out here.
async fn start_in_namespace(service: &Program) -> Lifeline {
    let mut lifeline = Lifeline::new();
    service.offload("alice", "Bash", bash(family(&lifeline))).await;
    lifeline.line().await;
    lifeline
}
