//! A list that is asked for again: the same bytes while nothing has changed, and never an old answer.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_offload::task::Scope;
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};

use crate::support::{finish, start};

struct Client {
    router: Router,
}

impl Client {
    fn of(manager: &TaskManager) -> Self {
        Self { router: BackgroundTasks::new(manager.clone()).router() }
    }

    async fn list(&self, user: &str, query: &str) -> Bytes {
        let request = http::Request::get(format!("/background-tasks{query}")).header("X-User-ID", user);
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["content-type"], "application/json");
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    /// Alice's names and states, which must be the same in all of her lists, asked for once or again.
    async fn shown(&self) -> Vec<String> {
        let mut all = Vec::new();
        for query in ["", "?session_id=s1", "?", "", "?session_id=s1"] {
            let list: serde_json::Value = serde_json::from_slice(&self.list("alice", query).await).unwrap();
            let tasks = list["tasks"].as_array().unwrap().iter().map(|task| {
                let stopping = if task["cancel_requested_at"].is_null() { "" } else { " stopping" };
                format!(
                    "{} {}{stopping}",
                    task["tool_name"].as_str().unwrap(),
                    task["status"].as_str().unwrap()
                )
            });
            all.push(tasks.collect::<Vec<_>>());
            assert_eq!(all[0], all[all.len() - 1], "{query}");
        }
        all.remove(0)
    }
}

fn meta(user: &str, name: &str) -> TaskMeta {
    TaskMeta::new(user, name).with_session("s1")
}

#[tokio::test]
async fn each_change_is_in_the_next_list() {
    let manager = TaskManager::builder().cancel_grace(Duration::from_secs(600)).build();
    let client = Client::of(&manager);
    let alice = Scope::user("alice");
    assert_eq!(client.shown().await, [""; 0]);

    let (end, ended) = oneshot::channel::<()>();
    let first = manager.spawn(meta("alice", "first"), async { drop(ended.await) }).unwrap();
    assert_eq!(client.shown().await, ["first running"]);

    let second = start(&manager, meta("alice", "second"));
    assert_eq!(client.shown().await, ["first running", "second running"]);

    manager.stop(&alice, first.id).await.unwrap();
    assert_eq!(client.shown().await, ["first running stopping", "second running"]);

    end.send(()).unwrap();
    manager.wait(&alice, first.id).await.unwrap().unwrap();
    assert_eq!(client.shown().await, ["first completed stopping", "second running"]);

    finish(&manager, meta("alice", "third"), Err("no")).await;
    assert_eq!(client.shown().await, ["first completed stopping", "second running", "third failed"]);

    assert_eq!(manager.stop_all(&Scope::session("s1")).await.unwrap(), 1);
    assert_eq!(client.shown().await, ["first completed stopping", "second running stopping", "third failed"]);
    drop(second);
}

#[tokio::test]
async fn what_retention_by_number_drops_is_gone_at_once() {
    let manager = TaskManager::builder().max_retained_per_user(2).max_retained(3).build();
    let client = Client::of(&manager);
    for (name, shown) in [
        ("a", &["a completed"] as &[&str]),
        ("b", &["a completed", "b completed"]),
        ("c", &["b completed", "c completed"]),
    ] {
        finish(&manager, meta("alice", name), Ok(())).await;
        assert_eq!(client.shown().await, shown);
    }
    // The tasks of others push out hers.
    finish(&manager, meta("bob", "d"), Ok(())).await;
    assert_eq!(client.shown().await, ["b completed", "c completed"]);
    finish(&manager, meta("bob", "e"), Ok(())).await;
    assert_eq!(client.shown().await, ["c completed"]);
    finish(&manager, meta("carol", "f"), Ok(())).await;
    assert_eq!(client.shown().await, [""; 0]);
    // Nothing of what she had before comes back.
    finish(&manager, meta("alice", "g"), Ok(())).await;
    assert_eq!(client.shown().await, ["g completed"]);
}

#[tokio::test(start_paused = true)]
async fn what_retention_by_time_drops_is_gone_in_time() {
    let manager = TaskManager::builder().retain_for(Duration::from_secs(60)).build();
    let client = Client::of(&manager);
    finish(&manager, meta("alice", "a"), Ok(())).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    finish(&manager, meta("alice", "b"), Ok(())).await;
    assert_eq!(client.shown().await, ["a completed", "b completed"]);
    tokio::time::advance(Duration::from_millis(29_990)).await;
    assert_eq!(client.shown().await, ["a completed", "b completed"]);
    // Nobody else gets to run in between: it is the request that notices.
    tokio::time::advance(Duration::from_millis(20)).await;
    assert_eq!(client.shown().await, ["b completed"]);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(client.shown().await, [""; 0]);
}

#[tokio::test]
async fn what_has_not_changed_is_not_written_again() {
    let manager = TaskManager::new();
    let client = Client::of(&manager);
    start(&manager, meta("alice", "Bash"));
    for query in ["", "?session_id=s1", "?session_id=s2"] {
        let first = client.list("alice", query).await;
        start(&manager, meta("bob", "Read"));
        let second = client.list("alice", query).await;
        assert_eq!(first, second);
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same memory, {query}");
    }
    // By any router of one manager's, but not of another's, whose numbers may be the same.
    let other = TaskManager::new();
    start(&other, meta("alice", "Read"));
    let tasks = BackgroundTasks::new(manager.clone());
    let (one, two) = (Client { router: tasks.router() }, Client { router: tasks.router() });
    assert_eq!(one.list("alice", "").await.as_ptr(), two.list("alice", "").await.as_ptr());
    assert_ne!(one.list("alice", "").await, Client::of(&other).list("alice", "").await);
}

#[tokio::test]
async fn a_long_list_is_not_kept() {
    let manager = TaskManager::new();
    let client = Client::of(&manager);
    for number in 0..50 {
        start(&manager, meta("alice", &format!("{number}{}", "x".repeat(2000))));
    }
    let (first, second) = (client.list("alice", "").await, client.list("alice", "").await);
    assert!(first.len() > 100_000);
    assert_eq!(first, second);
    assert_ne!(first.as_ptr(), second.as_ptr());
}

/// Whoever asks while a task ends must not leave an old list for those who ask after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_was_read_before_a_change_is_not_kept_as_one_after_it() {
    let manager = TaskManager::builder().max_retained_per_user(3).build();
    let client = Client::of(&manager);
    let other = Client { router: client.router.clone() };
    let asking = tokio::spawn(async move {
        loop {
            other.list("alice", "").await;
            tokio::task::yield_now().await;
        }
    });
    for number in 0..1500 {
        let name = format!("task {number}");
        finish(&manager, meta("alice", &name), Ok(())).await;
        let list = client.list("alice", "").await;
        let list = str::from_utf8(&list).unwrap();
        assert!(list.contains(&name) && !list.contains("running"), "{name} in {list}");
    }
    asking.abort();
}
