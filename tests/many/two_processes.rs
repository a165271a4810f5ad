//! The example that shows it all.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use crate::patience::PATIENCE;
use crate::program::{example, until};
use crate::redis_server::RedisServer;

/// Runs it in a folder, so that what it leaves behind can be found.
async fn run(folder: &Path, args: &[&str], path: Option<&str>) -> Output {
    let mut command = Command::new(example("two_processes").await);
    command.args(args).current_dir(folder).kill_on_drop(true);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// The processes whose working directory it is: it is handed down.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
        .map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default())
        .collect()
}

fn check(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let mut lines = text.lines();
    for part in [
        "server:  ",
        "first:   http://127.0.0.1:",
        "second:  http://127.0.0.1:",
        " is \"running\", \"Bash(command=sleep 60; echo never)\"",
        "Cancel request sent for task ",
        " is \"cancelled\"",
        "has completed.\\n\\nResult:\\n\\ndone\\n",
        " is \"failed\", \"worker_lost\": \"the process that ran the task is gone\"",
        "has failed: the process that ran it is gone",
        "  cancelled  ",
        "  completed  ",
        "  failed     ",
    ] {
        assert!(lines.any(|line| line.contains(part)), "{part:?}, in its place:\n{text}{errors}");
    }
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn it_shows_what_it_says_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], None).await;
    let lines = check(&output);
    let server = lines[0].strip_prefix("server:  redis://127.0.0.1:").expect("where it is");
    assert!(server.ends_with(" (started for this)"), "{server}");
    let tasks = lines.iter().skip_while(|line| !line.starts_with("# All of it")).skip(1);
    assert_eq!(tasks.count(), 3);
    let after = lines.iter().find(|line| line.contains("second:  after ")).unwrap();
    let seconds: f64 = after.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(seconds > 0.0, "{after}");
    until(async || processes_in(folder.path()).is_empty().then_some(())).await;
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "no file either");
}

#[tokio::test]
async fn it_uses_the_server_that_it_is_given() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    // Twice: what the first run has left there is no hindrance.
    for _ in 0..2 {
        let output = run(folder.path(), &["--redis", &server.url()], None).await;
        assert_eq!(check(&output)[0], "server:  the one that was named");
        until(async || processes_in(folder.path()).is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], Some("")).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: redis-server: "), "{error}");
    assert!(error.contains("install it, or name a server with --redis"), "{error}");

    for url in ["nowhere", "redis://:hunter2@127.0.0.1:0"] {
        let output = run(folder.path(), &["--redis", url], None).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains("error: "), "{error}");
        let shown = format!("{error}{}", String::from_utf8_lossy(&output.stdout));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    until(async || processes_in(folder.path()).is_empty().then_some(())).await;
}
