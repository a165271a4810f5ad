//! Processes that die as processes do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Program, until};
use crate::service::{Gate, Service, agreed, brief, forever, hints, is_over, same, told, without_dashes};

/// A process renews it every two seconds, so that one on a busy machine keeps it.
const LEASE: Duration = Duration::from_secs(6);

fn assert_lost(task: &Value) {
    assert_eq!((&task["status"], &task["failure_reason"]), (&json!("failed"), &json!("worker_lost")));
    assert_eq!(task["error_summary"], "the process that ran the task is gone");
    assert!(task["completed_at"].as_str().unwrap() > task["started_at"].as_str().unwrap());
}

#[tokio::test]
async fn the_tasks_of_a_process_that_was_killed_are_lost() {
    let service = Service::settled(LEASE).await;
    let [dead, two, three] = service.three().await;
    let others = [&two, &three];
    let done = dead.offload("alice", "Sleep", brief()).await;
    agreed(&others, "alice", &done, is_over).await;
    hints(&two, "alice", "s1", 1).await;
    let lost = dead.offload("alice", "Sleep", forever()).await;
    let of_bob = dead.offload_in("bob", "s2", "Sleep", forever()).await;
    let (kept, kept_too) =
        (two.offload("alice", "Sleep", forever()).await, three.offload("alice", "Sleep", forever()).await);
    let gate = Gate::new();
    let on_two = two.offload("alice", "Bash", gate.command()).await;
    for id in [&lost, &kept, &kept_too, &on_two] {
        agreed(&others, "alice", id, |_| true).await;
    }
    agreed(&others, "bob", &of_bob, |_| true).await;
    until(async || (service.registry("s1").len() == 4).then_some(())).await;

    dead.kill().await;
    let verdict = agreed(&others, "alice", &lost, is_over).await;
    assert_lost(&verdict);
    let hint = hints(&three, "alice", "s1", 1).await;
    assert_eq!(told(&hint), without_dashes([&lost]));
    assert!(hint[0].to_string().contains("has failed: the process that ran it is gone"), "{hint:?}");
    until(async || (service.registry("s1").len() == 3 && service.wills("alice") == 3).then_some(())).await;
    assert!(!service.registry("s1").contains(&lost));
    assert_eq!(service.wakeups().len(), 2, "one of the task that had ended, and one of the lost one");

    // Nobody has asked for bob's yet.
    assert_eq!(service.registry("s2"), [&*of_bob]);
    assert_lost(&agreed(&others, "bob", &of_bob, is_over).await);
    assert_eq!(told(&hints(&two, "bob", "s2", 1).await), without_dashes([&of_bob]));
    until(async || service.registry("s2").is_empty().then_some(())).await;

    // The tasks of the other processes go on.
    gate.open();
    assert_eq!(agreed(&others, "alice", &done, is_over).await["status"], "completed");
    assert_eq!(agreed(&others, "alice", &on_two, is_over).await["status"], "completed");
    for id in [&kept, &kept_too] {
        assert_eq!(agreed(&others, "alice", id, |_| true).await["status"], "running");
    }
    // One that has come since sees it as they do, and nobody is told again.
    let fresh = service.start().await;
    let all = [&two, &three, &fresh];
    assert_eq!(agreed(&all, "alice", &lost, |_| true).await, verdict);
    assert_eq!(same(&all, "alice", "/background-tasks").await.json()["total"], 5);
    assert_eq!(told(&hints(&fresh, "alice", "s1", 1).await), without_dashes([&on_two]));
    assert_eq!(service.wakeups().len(), 4);
    assert_eq!(service.wills("alice"), 2);
}

#[tokio::test]
async fn a_process_that_is_started_after_the_crash_finds_the_tasks_lost() {
    let service = Service::settled(LEASE).await;
    let dead = service.start().await;
    let lost = dead.offload("alice", "Sleep", forever()).await;
    until(async || (service.registry("s1") == [&*lost]).then_some(())).await;
    dead.kill().await;
    // Nobody was there to see it.
    let (one, two) = (service.start().await, service.start().await);
    let stopping = one.stop("alice", "s1", &lost).await;
    assert!(!stopping.contains("does not exist"), "{stopping}");
    let verdict = agreed(&[&one, &two], "alice", &lost, is_over).await;
    assert_lost(&verdict);
    assert_eq!(told(&hints(&two, "alice", "s1", 1).await), without_dashes([&lost]));
    until(async || service.registry("s1").is_empty().then_some(())).await;
    let said = two.stop("alice", "s1", &lost).await;
    assert_eq!(said, format!("Task {lost} has already finished. Its status is failed."));
    assert_eq!(service.wakeups().len(), 1);
    assert_eq!(one.delete("alice", "s1").await, 0);
}

#[tokio::test]
async fn many_readers_of_lost_tasks_tell_of_each_once() {
    let service = Service::settled(LEASE).await;
    let [dead, two, three] = service.three_with(&["--timeout-secs", "0"]).await;
    let mut lost = Vec::new();
    for _ in 0..25 {
        lost.push(dead.offload("alice", "Sleep", forever()).await);
    }
    until(async || (service.registry("s1").len() == 25).then_some(())).await;
    dead.kill().await;
    let read = async |process: &Program| {
        until(async || {
            let list = process.get("alice", "/background-tasks").await.json();
            list["tasks"].as_array().unwrap().iter().all(is_over).then_some(())
        })
        .await;
    };
    tokio::join!(read(&two), read(&three), read(&two), read(&three));
    let list = same(&[&two, &three], "alice", "/background-tasks").await.json();
    list["tasks"].as_array().unwrap().iter().for_each(assert_lost);
    let mut hints = hints(&two, "alice", "s1", 25).await;
    until(async || (service.wills("alice") == 0).then_some(())).await;
    hints.extend(three.drain("alice").await);
    assert_eq!(told(&hints), without_dashes(&lost));
    assert_eq!(service.wakeups().len(), 25);
    assert!(service.registry("s1").is_empty());
}
