//! What the processes show.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{bash, until};
use crate::service::{BRIEF, Service, agreed, brief, forever, hints, is_over, same, sleep};

const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_process_shows_the_tasks_of_all_in_one_order_and_the_same_words() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let all = [one, two, three];
    let calls = [
        ("s1", "Sleep", forever()),
        ("s2", "Sleep", brief()),
        ("s1", "Fail", json!({"seconds": BRIEF, "message": "dïsk full"})),
        ("s1", "Panic", brief()),
        ("s2", "Bash", bash("sleep 1.2; echo done")),
        ("s1", "Sleep", sleep(1001.0)),
        ("s1", "Bash", bash("sleep 1.2; exit 3")),
    ];
    let mut ids = Vec::new();
    for (number, (session, tool, input)) in calls.into_iter().enumerate() {
        let id = all[number % 3].offload_in("alice", session, tool, input).await;
        // The order is that of their coming to the directory.
        agreed(&[all[(number + 1) % 3]], "alice", &id, |_| true).await;
        all[(number + 1) % 3].offload("bob", "Sleep", forever()).await;
        ids.push(id);
    }
    let expected = ["running", "completed", "failed", "failed", "completed", "running", "failed"];
    for (id, status) in ids.iter().zip(expected) {
        agreed(&all, "alice", id, |task| task["status"] == status).await;
    }
    let list = same(&all, "alice", "/background-tasks").await.json();
    assert_eq!(list["total"], 7);
    for ((task, id), status) in list["tasks"].as_array().unwrap().iter().zip(&ids).zip(expected) {
        assert_eq!((&task["task_id"], &task["status"]), (&json!(id), &json!(status)));
        let alone = same(&all, "alice", &format!("/background-tasks/{id}")).await;
        assert_eq!((alone.status, &alone.json()), (200, task));
        let over = task["status"] != "running";
        assert_eq!(task["completed_at"] != Value::Null, over);
    }
    let reasons: Vec<_> =
        list["tasks"].as_array().unwrap().iter().map(|task| &task["failure_reason"]).collect();
    assert_eq!(json!(reasons), json!([null, null, "error", "panic", null, null, "error"]));
    for (session, total) in [("s1", 5), ("s2", 2), ("s3", 0), ("", 0)] {
        let path = format!("/background-tasks?session_id={session}");
        assert_eq!(same(&all, "alice", &path).await.json()["total"], total);
    }
    until(async || {
        let list = one.get("bob", "/background-tasks").await.json();
        (list["total"] == 7).then_some(())
    })
    .await;
    same(&all, "bob", "/background-tasks").await;
    assert_eq!(same(&all, "mallory", "/background-tasks").await.json(), json!({"tasks": [], "total": 0}));
}

#[tokio::test]
async fn what_comes_at_once_is_in_the_same_order_everywhere() {
    let service = Service::new(LEASE);
    let processes = service.three_with(&["--timeout-secs", "0"]).await;
    let [one, two, three] = &processes;
    let load = async |process: &crate::program::Program| {
        for _ in 0..20 {
            process.offload("alice", "Sleep", forever()).await;
        }
    };
    tokio::join!(load(one), load(two), load(three));
    for process in [one, two, three] {
        until(async || {
            let list = process.get("alice", "/background-tasks").await.json();
            (list["total"] == 60).then_some(())
        })
        .await;
    }
    same(&[one, two, three], "alice", "/background-tasks").await;
}

#[tokio::test]
async fn a_foreign_task_is_a_missing_one_on_all_processes() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let id = one.offload("alice", "Sleep", forever()).await;
    agreed(&[one, two, three], "alice", &id, |_| true).await;
    let mut seen = Vec::new();
    for process in [one, two, three] {
        for id in [&*id, "00000000-0000-4000-8000-000000000000", "x"] {
            let answer = process.get("bob", &format!("/background-tasks/{id}")).await;
            let mut headers: Vec<_> = answer.headers.into_iter().filter(|(name, _)| name != "date").collect();
            headers.sort();
            seen.push((answer.status, headers, answer.body));
        }
    }
    assert_eq!(seen[0].0, 404);
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn a_process_shows_its_own_changes_at_once() {
    let service = Service::new(LEASE);
    let (one, two) = (service.start_with(&["--timeout-secs", "0"]).await, service.start().await);
    for number in 1..=30 {
        let id = one.offload("alice", "Sleep", forever()).await;
        let list = one.get("alice", "/background-tasks").await.json();
        assert_eq!((&list["total"], &list["tasks"][number - 1]["task_id"]), (&json!(number), &json!(id)));
        assert_eq!(one.task("alice", &id).await["status"], "running");
        if number % 2 == 0 {
            // With no time to run it may say that it is still at it.
            one.stop("alice", "s1", &id).await;
            let task = one.ended("alice", &id).await;
            assert_eq!(task["status"], "cancelled");
            let list = one.get("alice", "/background-tasks").await.json();
            assert_eq!(list["tasks"][number - 1], task, "what was shown is not taken back");
        }
    }
    until(async || {
        let running = |list: Value| {
            list["tasks"].as_array().unwrap().iter().filter(|task| task["status"] == "running").count()
        };
        let list = two.get("alice", "/background-tasks").await.json();
        (list["total"] == 30 && running(list) == 15).then_some(())
    })
    .await;
    same(&[&one, &two], "alice", "/background-tasks").await;
}

#[tokio::test]
async fn retention_counts_the_tasks_of_all_processes_and_of_one_user() {
    let service = Service::new(LEASE);
    let processes = service.three_with(&["--max-retained", "3", "--timeout-secs", "0"]).await;
    let [one, two, three] = &processes;
    let all = [one, two, three];
    let long = one.offload("alice", "Sleep", forever()).await;
    let of_bob = two.offload("bob", "Sleep", sleep(0.05)).await;
    agreed(&all, "bob", &of_bob, is_over).await;
    let mut ids = Vec::new();
    for number in 0..8 {
        let process = all[number % 3];
        let id = process.offload("alice", "Sleep", sleep(0.05)).await;
        // The next one ends after it, for all to see.
        agreed(&[all[(number + 1) % 3]], "alice", &id, is_over).await;
        ids.push(id);
    }
    let listed = async |user| {
        let list = same(&all, user, "/background-tasks").await.json();
        let tasks = list["tasks"].as_array().unwrap();
        let ids: Vec<_> = tasks.iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(list["total"], ids.len());
        ids
    };
    assert_eq!(listed("alice").await, [&long, &ids[5], &ids[6], &ids[7]].map(String::clone));
    assert_eq!(listed("bob").await, [of_bob]);
    for id in &ids[..5] {
        assert_eq!(same(&all, "alice", &format!("/background-tasks/{id}")).await.status, 404);
    }
    // A record that is gone was told of all the same.
    hints(two, "alice", "s1", 8).await;
    // The end counts, and not the beginning.
    one.stop("alice", "s1", &long).await;
    agreed(&all, "alice", &long, is_over).await;
    assert_eq!(listed("alice").await, [&long, &ids[6], &ids[7]].map(String::clone));
}

#[tokio::test]
async fn agentscope_sees_a_task_in_its_registry_while_it_lives() {
    let service = Service::new(LEASE);
    let (one, two) = (service.start().await, service.start().await);
    assert_eq!(service.registry("s1"), [""; 0]);
    let first = one.offload("alice", "Sleep", forever()).await;
    let second = two.offload("alice", "Sleep", forever()).await;
    let third = two.offload_in("alice", "s2", "Sleep", forever()).await;
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let both = sorted(vec![first.clone(), second.clone()]);
    until(async || (sorted(service.registry("s1")) == both).then_some(())).await;
    until(async || (service.registry("s2") == [&*third]).then_some(())).await;
    two.stop("alice", "s1", &second).await;
    one.ended("alice", &second).await;
    until(async || (service.registry("s1") == [&*first]).then_some(())).await;
    two.stop("alice", "s1", &first).await;
    until(async || service.registry("s1").is_empty().then_some(())).await;
    assert_eq!(service.registry("s2"), [&*third]);
    assert_eq!(one.end(nix::sys::signal::Signal::SIGTERM).await.0, Some(0));
    assert_eq!(two.end(nix::sys::signal::Signal::SIGTERM).await.0, Some(0));
    assert_eq!(service.registry("s2"), [""; 0], "ended by the shutdown");
    assert_eq!(service.owners(), 0);
}
