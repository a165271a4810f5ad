//! The two short examples, and what the README shows of them.

use nix::sys::signal::Signal;

use crate::client::Request;
use crate::program::{Program, example};

#[tokio::test]
async fn tower_stack_shows_the_way_of_a_slow_call() {
    let output = tokio::process::Command::new(example("tower_stack").await).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let parts =
        ["2 pages:   a report of 2 pages", "100 pages: this takes a while: task ", " running (100 pages)"];
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("delivered: 100 pages -> Some(Ok(\"a report of 100 pages\"))"), "{text}");
    assert!(text.contains(" completed\n"), "{text}");
}

#[tokio::test]
async fn http_service_answers_202_and_lists_the_task() {
    let service = Program::run("http_service", &["127.0.0.1:0"]).await;
    let quick = service.get("alice", "/report/0").await;
    assert_eq!((quick.status, &*quick.text()), (200, "a report that took 0 s\n"));
    let slow = service.get("alice", "/report/6").await;
    assert_eq!(slow.status, 202, "{}", slow.text());
    let task = service.get("alice", &slow.headers["location"]).await;
    assert_eq!((task.status, task.json()), (200, slow.json()));
    assert_eq!(service.get("bob", &slow.headers["location"]).await.status, 404);
    let id = slow.json()["task_id"].as_str().unwrap().to_owned();
    let done = service.ended("alice", &id).await;
    assert_eq!(done["status"], "completed");
    let page = service.send(Request::new("GET", "/swagger-ui/")).await;
    assert_eq!(page.status, 200);
    // Idle, with all tasks ended: nothing to wait for.
    let (code, printed) = service.end(Signal::SIGTERM).await;
    assert_eq!((code, printed.lines().last()), (Some(0), Some("shut down")));
}

#[tokio::test]
async fn http_service_answers_what_is_under_way_before_it_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut service = Program::run("http_service", &["127.0.0.1:0"]).await;
        // A task that goes on for a second after its 202, and a call in the foreground.
        assert_eq!(service.get("alice", "/report/6").await.status, 202);
        let waiting = Request::new("GET", "/report/2").write(&service.address).await;
        until_read(&service).await;
        service.signal(signal);
        assert_eq!(crate::client::read(waiting).await.status, 200);
        assert_eq!(service.line().await.as_deref(), Some("shut down"));
    }
}

/// A connection that is accepted after those before it: they are accepted too.
async fn until_read(service: &Program) {
    assert_eq!(service.get("alice", "/report/0").await.status, 200);
}

#[tokio::test]
async fn http_service_ends_though_a_call_does_not() {
    let mut service = Program::run("http_service", &["127.0.0.1:0"]).await;
    assert_eq!(service.get("alice", "/report/6").await.status, 202);
    // Without a user it stays in the foreground.
    let endless = Request::new("GET", "/report/4000000000").write(&service.address).await;
    until_read(&service).await;
    service.signal(Signal::SIGTERM);
    assert_eq!(service.line().await.as_deref(), Some("shut down"));
    assert_eq!(service.wait().await.0, Some(0));
    drop(endless);
}

#[tokio::test]
async fn http_service_ends_at_once_at_the_second_signal() {
    let service = Program::run("http_service", &["127.0.0.1:0"]).await;
    let slow = Request::new("GET", "/report/1000").write(&service.address).await;
    until_read(&service).await;
    service.signal(Signal::SIGINT);
    // It has heard the first one when it does not listen any more.
    crate::program::until(async || service.refuses_connections().await.then_some(())).await;
    assert_eq!(service.end(Signal::SIGINT).await.0, Some(130));
    drop(slow);
}

#[test]
fn the_readme_shows_what_the_examples_run() {
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> =
        readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let run = [
        include_str!("../../examples/http_service.rs"),
        include_str!("../../examples/tower_stack.rs"),
        // Tested there as documentation.
        include_str!("../../src/bus/redis/mod.rs"),
    ];
    assert_eq!(shown.len(), run.len());
    for (shown, run) in shown.into_iter().zip(run) {
        let run: Vec<&str> = run.lines().map(|line| line.trim().trim_start_matches("///").trim()).collect();
        // The service of the second one is longer than its line here.
        for line in shown.lines().map(str::trim).filter(|line| !line.ends_with(".service(reports);")) {
            assert!(run.contains(&line), "not in the example: {line}");
        }
    }
}
