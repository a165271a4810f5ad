//! Ending in good order, with no process left behind.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::program::{PATIENCE, Program, bash, example, lives, tool_call, until};

#[tokio::test]
async fn a_signal_ends_it_and_everything_it_has_started() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let service = Program::start(&["--shutdown-secs", "0.1"]).await;
        let folder = tempfile::tempdir().unwrap();
        let (background, foreground) = (folder.path().join("background"), folder.path().join("foreground"));
        let command =
            |file: &std::path::Path| bash(format!("sleep 1000 & echo $! > {}; wait", file.display()));
        service.offload("alice", "Bash", command(&background)).await;
        service.offload("alice", "Sleep", json!({"seconds": 1000})).await;
        let quick = service.offload("alice", "Sleep", json!({"seconds": 0.3})).await;
        service.ended("alice", &quick).await;
        let waiting = tool_call("alice", "s1", "Bash", &command(&foreground)).write(&service.address).await;
        let mut pids = Vec::new();
        for file in [&background, &foreground] {
            let pid: i32 = until(async || std::fs::read_to_string(file).ok()?.trim().parse().ok()).await;
            assert!(lives(pid));
            pids.push(pid);
        }
        let (code, printed) = service.end(signal).await;
        assert_eq!(code, Some(0));
        let last = printed.lines().last().unwrap();
        assert!(last.starts_with("shut down: ") && last.contains("0 completed"), "{printed}");
        assert!(last.contains("cancelled, 0 unsettled, 0 undelivered"), "{printed}");
        drop(waiting);
        until(async || (!pids.iter().any(|pid| lives(*pid))).then_some(())).await;
    }
}

#[tokio::test]
async fn commands_of_calls_in_the_foreground_tidy_up_before_the_service_ends() {
    let service = Program::start(&["--timeout-secs", "1000", "--shutdown-secs", "0.1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let (started, tidy) = (folder.path().join("started"), folder.path().join("tidy"));
    let (touch_started, touch_tidy) = (started.display(), tidy.display());
    let command =
        format!("trap 'sleep 0.3; touch {touch_tidy}; exit' TERM; touch {touch_started}; sleep 1000 & wait");
    let waiting = tool_call("alice", "s1", "Bash", &bash(command)).write(&service.address).await;
    until(async || started.exists().then_some(())).await;
    assert_eq!(service.end(Signal::SIGTERM).await.0, Some(0));
    assert!(tidy.exists());
    drop(waiting);
}

#[tokio::test]
async fn a_grace_time_beyond_all_measure_is_refused() {
    for grace in ["1e19", "86401", "-1"] {
        let output = tokio::process::Command::new(example("agent_service").await)
            .args(["--listen", "127.0.0.1:0", "--grace-secs", grace])
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[tokio::test]
async fn tasks_that_end_in_time_complete() {
    let service = Program::start(&["--shutdown-secs", "20"]).await;
    service.offload("alice", "Sleep", json!({"seconds": 0.5})).await;
    let (code, printed) = service.end(Signal::SIGTERM).await;
    let last = printed.lines().last().unwrap().to_owned();
    let expected = "shut down: 1 completed, 0 failed, 0 cancelled, 0 unsettled, 0 undelivered";
    assert_eq!((code, &*last), (Some(0), expected));
}

#[tokio::test]
async fn calls_that_end_in_time_are_answered() {
    let service = Program::start(&["--timeout-secs", "1000", "--shutdown-secs", "20"]).await;
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let command = format!("touch {}; sleep 0.5; echo in time", started.display());
    let waiting = tool_call("alice", "s1", "Bash", &bash(command)).write(&service.address).await;
    until(async || started.exists().then_some(())).await;
    let (code, _) = service.end(Signal::SIGTERM).await;
    let answer = crate::client::read(waiting).await;
    assert_eq!((code, answer.json()["content"][0]["text"].as_str()), (Some(0), Some("in time\n")));
}
