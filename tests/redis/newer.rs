//! Rows of the directory that a newer version of the crate wrote: none is lost, and what they say is passed on.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_offload::task::{FailureReason, Outcome, Scope, TaskStatus};
use tower_offload::{BackgroundTasks, TaskId, TaskManager, TaskMeta};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, bus, until};

fn process(server: &RedisServer) -> TaskManager {
    TaskManager::builder().bus(Arc::new(bus(server))).build()
}

/// Rewrites the row of a task: in its head the status, and in its JSON what `change` does.
async fn rewrite(plain: &mut Plain, id: TaskId, status: &str, change: impl FnOnce(&mut Value)) {
    let id = id.to_string();
    for key in plain.keys().await {
        let kind: String = plain.run(&["TYPE", &key]).await;
        if kind != "hash" || plain.run::<i64>(&["HEXISTS", &key, &id]).await == 0 || key.contains("bg_tasks")
        {
            continue;
        }
        let row: String = plain.run(&["HGET", &key, &id]).await;
        let (head, json) = row.split_at(row.find('{').unwrap());
        let mut head: Vec<_> = head.split(' ').collect();
        head[1] = status;
        let mut json: Value = serde_json::from_str(json).unwrap();
        change(&mut json);
        let () = plain.run(&["HSET", &key, &id, &format!("{}{json}", head.join(" "))]).await;
        return;
    }
    panic!("the task has no row");
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
