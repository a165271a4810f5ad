//! What can be said on the command line about the server.

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

use crate::patience::PATIENCE;
use crate::program::{Program, example};
use crate::service::{Service, agreed, brief, forever, hints, is_over};

async fn run(args: &[&str]) -> Output {
    let output = Command::new(example("agent_service").await).args(args).kill_on_drop(true).output();
    tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap()
}

#[tokio::test]
async fn servers_that_cannot_be_are_refused_without_showing_the_password() {
    let wrong = [
        "",
        "nowhere",
        "http://alice:hunter2@127.0.0.1",
        "redis://alice:hunter2@",
        "redis://:hunter2@127.0.0.1:0",
        "redis://:hunter2@127.0.0.1:99999",
        "redis://:hunter2@127.0.0.1/x",
        "redis://:hunter2@127.0.0.1/-1",
        "redis://:hun#ter2@127.0.0.1",
        "redis://:hun/ter2@127.0.0.1",
        "redis://:hunter2@127.0.0.1?protocol=resp2",
        "127.0.0.1:6379",
    ];
    for url in wrong {
        let output = run(&["--listen", "127.0.0.1:0", "--redis", url]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{url}: {error}");
        assert!(
            error.starts_with("error: message bus: could not set up the bus on Redis: "),
            "{url}: {error}"
        );
        assert!(error.trim().lines().count() == 1 && !error.trim().ends_with(':'), "{url}: {error}");
        assert!(!error.contains("hun") && !error.contains("ter2"), "{url}: {error}");
        assert!(output.stdout.is_empty(), "{url}");
    }
    let output =
        run(&["--listen", "127.0.0.1:0", "--redis", "redis://127.0.0.1", "--redis-prefix", ""]).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.starts_with("error: "), "{error}");
}

#[tokio::test]
async fn a_lease_that_nobody_could_keep_is_refused() {
    for seconds in ["0", "-1", "0.05", "301", "NaN", "inf", "1e300", "x", ""] {
        let output = run(&[&*format!("--lease-secs={seconds}")]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{seconds}: {error}");
        assert!(error.starts_with("error: ") && error.contains("--lease-secs"), "{seconds}: {error}");
    }
}

#[tokio::test]
async fn the_shortest_and_the_longest_lease_work() {
    for seconds in [0.1, 300.0] {
        let service = Service::new(Duration::from_secs_f64(seconds));
        // Alone: on a machine that is busy nobody can be sure to keep the shortest.
        let one = service.start().await;
        let id = one.offload("alice", "Sleep", brief()).await;
        assert_eq!(agreed(&[&one], "alice", &id, is_over).await["status"], "completed", "{seconds}");
        hints(&one, "alice", "s1", 1).await;
    }
}

#[tokio::test]
async fn the_help_names_what_is_about_the_server() {
    let output = run(&["--help"]).await;
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for option in [
        "--redis <URL>",
        "--redis-prefix <PREFIX>",
        "--lease-secs <SECONDS>",
        "--consume-wakeups",
        "[default: 15]",
    ] {
        assert!(help.contains(option), "{option}: {help}");
    }
}

#[tokio::test]
async fn two_prefixes_are_two_services() {
    let service = Service::new(Duration::from_secs(15));
    let staging: &[&str] = &["--redis-prefix", "staging"];
    let (one, two) = (service.start().await, service.start_with(staging).await);
    let other: Program = service.start_with(staging).await;
    let id = two.offload("alice", "Sleep", forever()).await;
    agreed(&[&two, &other], "alice", &id, |_| true).await;
    assert_eq!(one.get("alice", &format!("/background-tasks/{id}")).await.status, 404);
    assert_eq!(one.delete("alice", "s1").await, 0);
    assert!(one.stop("alice", "s1", &id).await.contains("does not exist"));
    assert_eq!(service.registry("s1"), [""; 0]);
    assert_eq!(agreed(&[&two, &other], "alice", &id, |_| true).await["status"], "running");
}
