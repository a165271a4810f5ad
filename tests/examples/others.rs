//! The two short examples.

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
    // It has no handler of its own: the signal just ends it.
    assert_eq!(service.end(Signal::SIGTERM).await.0, None);
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
