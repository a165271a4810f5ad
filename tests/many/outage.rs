//! Processes without their server.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::Request;
use crate::program::{Program, until};
use crate::redis_server::RedisServer;
use crate::service::{
    BRIEF, Gate, Service, agreed, brief, forever, hints, is_over, same, sleep, told, without_dashes,
};

/// A process renews it every two seconds, so that one on a busy machine keeps it.
const LEASE: Duration = Duration::from_secs(6);

async fn health(process: &Program) -> (u16, Value) {
    let answer = process.send(Request::new("GET", "/health")).await;
    (answer.status, answer.json())
}

async fn fast_call(process: &Program) {
    let answer = process.call("alice", "Sleep", sleep(0.001)).await.json();
    assert_eq!(answer["content"][0]["text"], "slept for 0.001 s");
}

async fn assert_unavailable(process: &Program) {
    for (method, path) in [
        ("GET", "/background-tasks"),
        ("GET", "/background-tasks?session_id=s1"),
        ("GET", "/background-tasks/00000000-0000-4000-8000-000000000000"),
        ("POST", "/sessions/s1/inbox/drain"),
        ("DELETE", "/sessions/s9"),
    ] {
        let answer = process.send(Request::new(method, path).header("X-User-ID", "alice")).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (503, "application/problem+json"),
            "{path}"
        );
        assert!(answer.headers["retry-after"].parse::<u32>().unwrap() >= 1, "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"], 503);
        assert!(problem["type"].as_str().unwrap().ends_with("#unavailable"), "{problem}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_breaks_no_call_and_gets_everything_later() {
    let mut service = Service::new(LEASE);
    service.redis.kill();
    let (mut one, two) = (service.start_with(&["--consume-wakeups"]).await, service.start().await);
    fast_call(&one).await;
    let brief = one.offload("alice", "Sleep", brief()).await;
    let fails = two.offload("alice", "Fail", json!({"seconds": BRIEF, "message": "disk full"})).await;
    let long = two.offload_in("bob", "s2", "Sleep", forever()).await;
    fast_call(&two).await;
    for process in [&one, &two] {
        assert_unavailable(process).await;
        until(async || {
            let (status, health) = health(process).await;
            (status == 503 && health["connected"] == false && health["waiting_results"] == 1).then_some(())
        })
        .await;
        let (_, health) = health(process).await;
        assert!(health["last_error"].as_str().unwrap().contains("127.0.0.1"), "{health}");
        assert!(health["waiting_records"].as_u64().unwrap() >= 1, "{health}");
    }
    let said = one.stop("alice", "s1", &fails).await;
    assert!(said.starts_with("BusError: ") && said.contains("try again later"), "{said}");

    service.redis.restart();
    assert_eq!(agreed(&[&one, &two], "alice", &brief, is_over).await["status"], "completed");
    let task = agreed(&[&one, &two], "alice", &fails, is_over).await;
    assert_eq!((&task["status"], &task["error_summary"]), (&json!("failed"), &json!("disk full")));
    assert_eq!(agreed(&[&one, &two], "bob", &long, |_| true).await["status"], "running");
    assert_eq!(same(&[&one, &two], "alice", "/background-tasks").await.json()["total"], 2);
    assert_eq!(told(&hints(&two, "alice", "s1", 2).await), without_dashes([&brief, &fails]));
    until(async || {
        let line = one.line().await.unwrap();
        line.starts_with("wakeup: ").then_some(())
    })
    .await;
    for process in [&one, &two] {
        until(async || {
            let (status, health) = health(process).await;
            (status == 200 && health["connected"] == true).then_some(())
        })
        .await;
        let (_, health) = health(process).await;
        assert_eq!((&health["waiting_records"], &health["waiting_results"]), (&json!(0), &json!(0)));
    }
    // Cancels are heard again.
    one.stop("bob", "s2", &long).await;
    assert_eq!(agreed(&[&one, &two], "bob", &long, is_over).await["status"], "cancelled");
}

#[tokio::test]
async fn a_server_that_forgets_everything_is_told_again() {
    let mut service = Service::new(LEASE);
    let (one, two) = (service.start().await, service.start().await);
    let long = one.offload("alice", "Sleep", forever()).await;
    let gate = Gate::new();
    let ends = two.offload("alice", "Bash", gate.command()).await;
    agreed(&[&one, &two], "alice", &ends, |_| true).await;
    service.redis.kill();
    until(async || (one.get("alice", "/background-tasks").await.status == 503).then_some(())).await;
    assert_unavailable(&two).await;
    gate.open();
    service.redis.restart();
    assert_eq!(agreed(&[&one, &two], "alice", &long, |_| true).await["status"], "running");
    assert_eq!(agreed(&[&one, &two], "alice", &ends, is_over).await["status"], "completed");
    assert_eq!(told(&hints(&one, "alice", "s1", 1).await), without_dashes([&ends]));
    until(async || (service.registry("s1") == [&*long]).then_some(())).await;
}

#[tokio::test]
async fn leases_that_ended_while_the_server_was_away_cost_nobody_a_task() {
    // Longer than it takes everybody to come back: two pauses of a second at most, and the server tells its age in
    // whole seconds.
    let lease = Duration::from_secs(8);
    let mut service = Service::on(RedisServer::persistent(), lease);
    let processes = service.three().await;
    let all: Vec<_> = processes.iter().collect();
    let mut ids = Vec::new();
    for process in &all {
        ids.push(process.offload("alice", "Sleep", forever()).await);
    }
    for id in &ids {
        agreed(&all, "alice", id, |_| true).await;
    }
    service.redis.kill();
    let away = Instant::now();
    until(async || {
        assert_unavailable(all[0]).await;
        (away.elapsed() > lease + Duration::from_secs(1)).then_some(())
    })
    .await;
    service.redis.restart();
    // Some are back before others, and look at once.
    let back = Instant::now();
    until(async || {
        for process in &all {
            let answer = process.get("alice", "/background-tasks").await;
            if answer.status == 200 {
                let list = answer.json();
                let tasks = list["tasks"].as_array().unwrap();
                assert!(tasks.len() == 3 && !tasks.iter().any(is_over), "{list}");
            }
        }
        (back.elapsed() > lease * 2).then_some(())
    })
    .await;
    for id in &ids {
        agreed(&all, "alice", id, |_| true).await;
    }
}

#[tokio::test]
async fn a_process_ends_in_time_without_its_server() {
    let mut service = Service::new(LEASE);
    let one = service.start_with(&["--shutdown-secs", "0.2", "--consume-wakeups"]).await;
    let id = one.offload("alice", "Sleep", forever()).await;
    agreed(&[&one], "alice", &id, |_| true).await;
    service.redis.kill();
    let (code, printed) = one.end(Signal::SIGTERM).await;
    assert_eq!(code, Some(0));
    let last = printed.lines().last().unwrap();
    // The end of the task could not be published, so that it counts as nothing but undelivered.
    assert!(last.contains("0 cancelled, 0 unsettled, 1 undelivered"), "{printed}");
}
