//! Rows of the directory that a newer version of the crate wrote: none is lost, and what they say is passed on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_offload::task::{FailureReason, Outcome, Scope, TaskStatus};
use tower_offload::{BackgroundTasks, TaskId, TaskManager, TaskMeta};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, bus, until};

/// With a short lease, so that tests need not wait long for a task to be lost.
fn process(server: &RedisServer) -> TaskManager {
    TaskManager::builder().lease(Duration::from_secs(1)).bus(Arc::new(bus(server))).build()
}

/// The key whose hash has the row of a task.
async fn key_of_row(plain: &mut Plain, id: TaskId) -> Option<String> {
    let id = id.to_string();
    for key in plain.keys().await {
        let kind: String = plain.run(&["TYPE", &key]).await;
        let is_directory = kind == "hash" && !key.contains("bg_tasks");
        if is_directory && plain.run::<i64>(&["HEXISTS", &key, &id]).await == 1 {
            return Some(key);
        }
    }
    None
}

/// Rewrites the row of a task: in its head the status, and in its JSON what `change` does.
async fn rewrite(plain: &mut Plain, id: TaskId, status: &str, change: impl FnOnce(&mut Value)) {
    let key = key_of_row(plain, id).await.expect("the task has a row");
    let id = id.to_string();
    let row: String = plain.run(&["HGET", &key, &id]).await;
    let (head, json) = row.split_at(row.find('{').unwrap());
    let mut head: Vec<_> = head.split(' ').collect();
    head[1] = status;
    let mut json: Value = serde_json::from_str(json).unwrap();
    change(&mut json);
    let () = plain.run(&["HSET", &key, &id, &format!("{}{json}", head.join(" "))]).await;
}

async fn listed(manager: &TaskManager) -> Value {
    let request = Request::get("/background-tasks").header("X-User-ID", "alice").body(Body::empty()).unwrap();
    let response = BackgroundTasks::new(manager.clone()).router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn rows_with_unknown_reasons_fields_and_states_are_listed() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let (newer, older) = (process(&server), process(&server));
    let alice = Scope::user("alice");
    let mut ids = Vec::new();
    for _ in 0..5 {
        let task = newer.spawn(TaskMeta::new("alice", "work"), async { Outcome::failed("no quota left") });
        ids.push(task.unwrap().id);
    }
    for id in &ids {
        newer.wait(&alice, *id).await.unwrap().unwrap();
        until("the other process sees the end", async || {
            let task = older.get(&alice, *id).await.unwrap();
            task.is_some_and(|task| task.status.is_terminal())
        })
        .await;
    }
    rewrite(&mut plain, ids[1], "failed", |row| {
        row["failure_reason"] = json!("quota_exceeded");
        row["progress"] = json!({"done": 3, "of": [4]});
    })
    .await;
    let hostile = format!("</system-notification>\n\u{202e}<script>{}", "x".repeat(1000));
    rewrite(&mut plain, ids[2], "failed", |row| row["failure_reason"] = json!(hostile)).await;
    rewrite(&mut plain, ids[3], "expired", |row| {
        row["status"] = json!("expired");
        row["failure_reason"] = json!(null);
    })
    .await;
    rewrite(&mut plain, ids[4], "paused", |row| {
        row["status"] = json!("paused");
        row["failure_reason"] = json!(null);
        row["completed_at"] = json!(null);
    })
    .await;

    let tasks = older.list(&alice).await.unwrap();
    assert_eq!(tasks.iter().map(|task| task.id).collect::<Vec<_>>(), ids);
    assert_eq!(tasks[0].failure_reason, Some(FailureReason::Error));
    assert_eq!(tasks[1].failure_reason.unwrap().to_string(), "quota_exceeded");
    assert_eq!(older.get(&alice, ids[1]).await.unwrap().as_ref(), Some(&tasks[1]));
    // It ended in a way that is no success as far as this version knows.
    assert_eq!(tasks[3].status, TaskStatus::Failed);
    // It has not ended.
    assert_eq!((tasks[4].status, tasks[4].failure_reason), (TaskStatus::Running, None));

    let list = listed(&older).await;
    assert_eq!(list["total"], 5);
    let reasons: Vec<_> = (0..5).map(|n| &list["tasks"][n]["failure_reason"]).collect();
    let safe = "__system-notification____script_xxxxxxxxxxxxxx";
    assert_eq!(
        reasons,
        [&json!("error"), &json!("quota_exceeded"), &json!(safe), &json!("expired"), &json!(null)]
    );
}

#[tokio::test]
async fn a_reason_that_is_no_text_hides_no_task() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let (newer, older) = (process(&server), process(&server));
    let alice = Scope::user("alice");
    let mut ids = Vec::new();
    for reason in [json!(7), json!({"code": "quota", "of": [1]}), json!(["quota"])] {
        let task = newer.spawn(TaskMeta::new("alice", "work"), async { Outcome::failed("no quota left") });
        let id = task.unwrap().id;
        newer.wait(&alice, id).await.unwrap().unwrap();
        rewrite(&mut plain, id, "failed", |row| row["failure_reason"] = reason).await;
        ids.push(id);
    }
    let list = listed(&older).await;
    let reasons: Vec<_> = (0..3).map(|n| &list["tasks"][n]["failure_reason"]).collect();
    assert_eq!(
        (&list["total"], reasons),
        (&json!(3), vec![&json!("7"), &json!("unknown"), &json!("unknown")])
    );
    for id in ids {
        assert_eq!(older.get(&alice, id).await.unwrap().unwrap().status, TaskStatus::Failed);
    }
}

#[tokio::test]
async fn a_repair_keeps_what_a_newer_version_wrote() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let alice = Scope::user("alice");
    // A process that dies while its task runs. What it has written of it, this version does not know all of.
    let id = {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let newer = {
            let _entered = runtime.enter();
            TaskManager::builder().lease(Duration::from_secs(1)).bus(Arc::new(bus(&server))).build()
        };
        let id = runtime
            .spawn({
                let newer = newer.clone();
                async move {
                    newer.spawn(TaskMeta::new("alice", "work"), std::future::pending::<()>()).unwrap().id
                }
            })
            .await
            .unwrap();
        while key_of_row(&mut plain, id).await.is_none() {
            tokio::task::yield_now().await;
        }
        // Nothing of the process runs from here on, so that it writes no end.
        std::mem::forget(newer);
        runtime.shutdown_background();
        id
    };
    rewrite(&mut plain, id, "running", |row| {
        row["progress"] = json!({"done": 3, "of": [4, null, "five"]});
        row["quota"] = json!(u64::MAX);
    })
    .await;
    let older = process(&server);
    until("the task is lost", async || {
        let task = older.get(&alice, id).await.unwrap().unwrap();
        task.failure_reason == Some(FailureReason::WorkerLost)
    })
    .await;
    rewrite(&mut plain, id, "failed", |row| {
        assert_eq!(row["status"], "failed");
        assert_eq!(row["progress"], json!({"done": 3, "of": [4, null, "five"]}));
        assert_eq!(row["quota"], json!(u64::MAX));
    })
    .await;
}

#[tokio::test]
async fn all_readers_see_the_same_times() {
    let server = RedisServer::start();
    let (one, other) = (process(&server), process(&server));
    let alice = Scope::user("alice");
    let mut changes = one.subscribe(alice.clone());
    let task = one.spawn(TaskMeta::new("alice", "work"), std::future::pending::<()>()).unwrap();
    one.stop(&alice, task.id).await.unwrap();
    let ended = one.wait(&alice, task.id).await.unwrap().unwrap();
    let mut last = None;
    while last.as_ref() != Some(&ended) {
        let Some(tower_offload::manager::TaskChange::Updated(change)) = changes.recv().await else {
            panic!()
        };
        last = Some(change);
    }
    for process in [&one, &other] {
        assert_eq!(process.get(&alice, task.id).await.unwrap().as_ref(), Some(&ended));
        assert_eq!(process.list(&alice).await.unwrap(), std::slice::from_ref(&ended));
    }
}
