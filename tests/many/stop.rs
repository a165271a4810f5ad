//! Stopping what another process runs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{bash, lives, until};
use crate::service::{Service, agreed, brief, forever, is_over};

const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_task_is_stopped_from_another_process_with_all_that_it_has_started() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let all = [one, two, three];
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let command = format!(
        "set -m; sleep 100 & first=$!; timeout 100 sleep 101 & echo $$ $first $! > {}; trap '' TERM; wait; wait",
        pids.display()
    );
    let id = one.offload("alice", "Bash", bash(command)).await;
    let pids: Vec<i32> = until(async || {
        let text = std::fs::read_to_string(&pids).ok()?;
        text.ends_with('\n').then(|| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    })
    .await;
    let running = agreed(&all, "alice", &id, |_| true).await;
    for process in all {
        for (user, session) in [("bob", "s1"), ("alice", "s2"), ("bob", "s2")] {
            let said = process.stop(user, session, &id).await;
            assert_eq!(said, format!("TaskNotFoundError: The task {id} does not exist."));
        }
    }
    assert_eq!(agreed(&all, "alice", &id, |_| true).await, running, "nobody has asked it to stop");
    assert!(pids.iter().all(|pid| lives(*pid)));

    let said = two.stop("alice", "s1", &id).await;
    assert_eq!(said, format!("Cancel request sent for task {id}. The owning worker will stop it shortly."));
    let task = agreed(&all, "alice", &id, is_over).await;
    assert_eq!((&task["status"], &task["failure_reason"]), (&json!("cancelled"), &Value::Null));
    assert!(task["cancel_requested_at"].as_str().unwrap() <= task["completed_at"].as_str().unwrap());
    until(async || (!pids.iter().any(|pid| lives(*pid))).then_some(())).await;
    for process in all {
        let said = process.stop("alice", "s1", &id).await;
        assert_eq!(said, format!("Task {id} has already finished. Its status is cancelled."));
    }
    // Whoever has stopped it knows: a result that comes later is the first that is told.
    let next = one.offload("alice", "Sleep", brief()).await;
    let hint = three.hints().await;
    assert_eq!(crate::service::told(&hint), [next.replace('-', "")]);
    assert_eq!(service.wakeups().len(), 1);
}

#[tokio::test]
async fn a_session_is_cancelled_on_all_processes_and_for_one_user() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let all = [one, two, three];
    let (mut stopped, mut kept) = (Vec::new(), Vec::new());
    for process in all {
        stopped.push(process.offload("alice", "Sleep", forever()).await);
        stopped.push(process.offload("alice", "Sleep", forever()).await);
        kept.push(("alice", process.offload_in("alice", "s2", "Sleep", forever()).await));
        kept.push(("bob", process.offload("bob", "Sleep", forever()).await));
    }
    let done = two.offload("alice", "Sleep", brief()).await;
    agreed(&all, "alice", &done, is_over).await;
    for id in &stopped {
        agreed(&all, "alice", id, |_| true).await;
    }
    for (user, id) in &kept {
        agreed(&all, user, id, |_| true).await;
    }
    assert_eq!(three.delete("mallory", "s1").await, 0);
    assert_eq!(one.delete("alice", "s1").await, 6);
    for id in &stopped {
        assert_eq!(agreed(&all, "alice", id, is_over).await["status"], "cancelled");
    }
    assert_eq!(agreed(&all, "alice", &done, is_over).await["status"], "completed");
    for process in all {
        assert_eq!(process.delete("alice", "s1").await, 0);
    }
    for (user, id) in &kept {
        let task = agreed(&all, user, id, |_| true).await;
        assert_eq!((&task["status"], &task["cancel_requested_at"]), (&json!("running"), &Value::Null));
    }
    assert_eq!(two.delete("bob", "s1").await, 3);
    assert_eq!(three.delete("alice", "s2").await, 3);
    for (user, id) in &kept {
        assert_eq!(agreed(&all, user, id, is_over).await["status"], "cancelled");
    }
}

#[tokio::test]
async fn a_stop_waits_for_an_owner_that_stands_still() {
    let service = Service::new(LEASE);
    let (one, two) = (service.start().await, service.start().await);
    let id = one.offload("alice", "Sleep", forever()).await;
    let other = one.offload("alice", "Sleep", forever()).await;
    agreed(&[&two], "alice", &id, |_| true).await;
    agreed(&[&two], "alice", &other, |_| true).await;
    one.pause().await;
    for _ in 0..2 {
        let said = two.stop("alice", "s1", &id).await;
        assert!(said.starts_with("Cancel request sent for task "), "{said}");
    }
    let task = two.task("alice", &id).await;
    assert_eq!(task["status"], "running");
    assert!(task["cancel_requested_at"].is_string(), "it is shown that it was asked");
    one.resume();
    assert_eq!(agreed(&[&one, &two], "alice", &id, is_over).await["status"], "cancelled");
    assert_eq!(agreed(&[&one, &two], "alice", &other, |_| true).await["status"], "running");
}
