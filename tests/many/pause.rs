//! Processes that stand still for a while, as those of a paused machine do.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::program::{bash, lives, until};
use crate::service::{Service, agreed, brief, forever, hints, is_over, sleep, told, without_dashes};

/// Longer than it takes to see the task on all processes.
const ENDS: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_process_that_was_taken_for_dead_overwrites_nothing_and_stops_its_work() {
    let service = Service::settled(Duration::from_secs(6)).await;
    let [revived, two, three] = service.three().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let command = format!("sleep 300 & echo $! > {}; wait", file.display());
    let works = revived.offload("alice", "Bash", bash(command)).await;
    let pid: i32 = until(async || std::fs::read_to_string(&file).ok()?.trim().parse().ok()).await;
    // By the clock it ends while the process stands still, and by itself when it goes on.
    let began = Instant::now();
    let ends = revived.offload("alice", "Sleep", sleep(ENDS.as_secs_f64())).await;
    let of_two = two.offload("alice", "Sleep", forever()).await;
    for id in [&works, &ends, &of_two] {
        agreed(&[&two, &three], "alice", id, |_| true).await;
    }
    assert_eq!(two.task("alice", &ends).await["status"], "running");
    revived.pause().await;

    let lost = [&works, &ends];
    let mut verdicts = Vec::new();
    for id in lost {
        let task = agreed(&[&two, &three], "alice", id, is_over).await;
        assert_eq!((&task["status"], &task["failure_reason"]), (&json!("failed"), &json!("worker_lost")));
        verdicts.push(task);
    }
    assert_eq!(told(&hints(&three, "alice", "s1", 2).await), without_dashes(lost));
    until(async || (service.registry("s1") == [&*of_two]).then_some(())).await;
    assert!(lives(pid), "no process can stop what it has started");

    until(async || (began.elapsed() > ENDS).then_some(())).await;
    revived.resume();
    for (id, verdict) in lost.into_iter().zip(&verdicts) {
        assert_eq!(revived.task("alice", id).await, *verdict, "from its first answer on");
    }
    until(async || (!lives(pid)).then_some(())).await;
    for (id, verdict) in lost.into_iter().zip(&verdicts) {
        let said = revived.stop("alice", "s1", id).await;
        assert_eq!(said, format!("Task {id} has already finished. Its status is failed."));
        assert_eq!(agreed(&[&revived, &two, &three], "alice", id, |_| true).await, *verdict);
    }
    // It is as good as any again, and what it tells now is all that it tells.
    let next = revived.offload("alice", "Sleep", brief()).await;
    let task = agreed(&[&revived, &two, &three], "alice", &next, is_over).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(told(&hints(&two, "alice", "s1", 1).await), without_dashes([&next]));
    assert_eq!(service.wakeups().len(), 3);
    assert_eq!(service.registry("s1"), [&*of_two]);
    assert_eq!(service.wills("alice"), 1);
    assert_eq!(agreed(&[&revived, &two, &three], "alice", &of_two, |_| true).await["status"], "running");
}

#[tokio::test]
async fn a_process_learns_that_it_was_taken_for_dead_though_nobody_asks_it() {
    let service = Service::settled(Duration::from_secs(4)).await;
    let (revived, two) = (service.start().await, service.start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let command = format!("echo $$ > {}; sleep 300; echo never", file.display());
    let id = revived.offload("alice", "Bash", bash(command)).await;
    let pid: i32 = until(async || std::fs::read_to_string(&file).ok()?.trim().parse().ok()).await;
    agreed(&[&two], "alice", &id, |_| true).await;
    revived.pause().await;
    let verdict = agreed(&[&two], "alice", &id, is_over).await;
    revived.resume();
    until(async || (!lives(pid)).then_some(())).await;
    until(async || service.registry("s1").is_empty().then_some(())).await;
    assert_eq!(agreed(&[&two, &revived], "alice", &id, |_| true).await, verdict);
    hints(&two, "alice", "s1", 1).await;
    let (code, printed) = revived.end(nix::sys::signal::Signal::SIGTERM).await;
    assert_eq!(code, Some(0));
    assert!(printed.contains("0 completed, 0 failed, 0 cancelled, 0 unsettled"), "{printed}");
    assert_eq!(agreed(&[&two], "alice", &id, |_| true).await, verdict);
    assert_eq!(service.wakeups().len(), 1);
}

#[tokio::test]
async fn a_pause_that_is_shorter_than_the_lease_is_nothing() {
    let lease = Duration::from_secs(15);
    let service = Service::settled(lease).await;
    let (one, two) = (service.start().await, service.start().await);
    let long = one.offload("alice", "Sleep", forever()).await;
    let ends = one.offload("alice", "Sleep", brief()).await;
    agreed(&[&two], "alice", &long, |_| true).await;
    agreed(&[&two], "alice", &ends, |_| true).await;
    one.pause().await;
    let began = Instant::now();
    // It is renewed three times as often, so that most of it is left.
    until(async || {
        assert_eq!(two.task("alice", &long).await["status"], "running");
        (began.elapsed() > lease / 3).then_some(())
    })
    .await;
    one.resume();
    let task = agreed(&[&one, &two], "alice", &ends, is_over).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(told(&hints(&two, "alice", "s1", 1).await), without_dashes([&ends]));
    // Beyond the lease that it had when it stood still.
    until(async || {
        let task = agreed(&[&one, &two], "alice", &long, |_| true).await;
        assert_eq!(task["status"], "running");
        (began.elapsed() > lease + Duration::from_secs(1)).then_some(())
    })
    .await;
    assert_eq!(service.wakeups().len(), 1);
    assert_eq!(service.registry("s1"), [&*long]);
}

#[tokio::test]
async fn a_process_that_nobody_missed_keeps_its_tasks() {
    let lease = Duration::from_secs(4);
    let service = Service::settled(lease).await;
    let (one, two) = (service.start().await, service.start().await);
    let id = one.offload("alice", "Sleep", forever()).await;
    agreed(&[&two], "alice", &id, |_| true).await;
    one.pause().await;
    let began = Instant::now();
    until(async || {
        // Of somebody else.
        assert_eq!(two.get("bob", "/background-tasks").await.json()["total"], 0);
        (began.elapsed() > lease * 2).then_some(())
    })
    .await;
    one.resume();
    // It has its lease again before it answers.
    let next = one.offload("alice", "Sleep", brief()).await;
    agreed(&[&one], "alice", &next, is_over).await;
    hints(&one, "alice", "s1", 1).await;
    assert_eq!(agreed(&[&one, &two], "alice", &id, |_| true).await["status"], "running");
    two.stop("alice", "s1", &id).await;
    assert_eq!(agreed(&[&one, &two], "alice", &id, is_over).await["status"], "cancelled");
}
