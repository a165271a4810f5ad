use serde_json::json;
use tower_offload::task::Scope;
use tower_offload::{TaskId, TaskManager, TaskMeta};

use crate::support::{Server, finish, listed, start};

#[tokio::test]
async fn a_list_has_all_members_of_each_task_in_the_documented_order() {
    let manager = TaskManager::new();
    let meta = TaskMeta::new("alice", "Bash").with_session("s1").with_agent("a1").with_summary("Bash(make)");
    let failed = finish(&manager, meta.with_call_id("call_1"), Err("exit status 2")).await;
    let running = start(&manager, TaskMeta::new("alice", "Read"));
    let server = Server::of(&manager).await;

    let answer = server.get("alice", "/background-tasks").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let list = answer.json();
    let time = |name: &str| list["tasks"][0][name].as_str().unwrap();
    let (first, second) = (failed.id, running.id);
    let (started, completed) = (time("started_at"), time("completed_at"));
    let started_second = list["tasks"][1]["started_at"].as_str().unwrap();
    let expected = format!(
        "{{\"tasks\":[\
         {{\"task_id\":\"{first}\",\"session_id\":\"s1\",\"agent_id\":\"a1\",\"tool_name\":\"Bash\",\
         \"summary\":\"Bash(make)\",\"status\":\"failed\",\"started_at\":\"{started}\",\
         \"completed_at\":\"{completed}\",\"error_summary\":\"exit status 2\",\"failure_reason\":\"error\",\
         \"cancel_requested_at\":null,\"call_id\":\"call_1\"}},\
         {{\"task_id\":\"{second}\",\"session_id\":\"\",\"agent_id\":\"\",\"tool_name\":\"Read\",\
         \"summary\":\"Read\",\"status\":\"running\",\"started_at\":\"{started_second}\",\
         \"completed_at\":null,\"error_summary\":null,\"failure_reason\":null,\
         \"cancel_requested_at\":null,\"call_id\":null}}],\"total\":2}}"
    );
    assert_eq!(answer.text(), expected);
    assert!(started <= completed && completed.ends_with('Z'), "{started} {completed}");
    for (index, id) in [first, second].into_iter().enumerate() {
        let one = server.get("alice", &format!("/background-tasks/{id}")).await;
        assert_eq!((one.status, one.json()), (200, list["tasks"][index].clone()));
    }
}

#[tokio::test]
async fn a_list_is_in_the_order_of_registration_whatever_ends_first() {
    let manager = TaskManager::new();
    let mut ids = Vec::new();
    for name in 0..30 {
        ids.push(start(&manager, TaskMeta::new("alice", name.to_string())).id);
    }
    let alice = Scope::user("alice");
    for id in ids.iter().rev().step_by(3) {
        manager.stop(&alice, *id).await.unwrap();
        manager.wait(&alice, *id).await.unwrap().unwrap();
    }
    let server = Server::of(&manager).await;
    let names = listed(&server.get("alice", "/background-tasks").await);
    assert_eq!(names, (0..30).map(|name| name.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stopped_task_says_so() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash"));
    let path = format!("/background-tasks/{}", task.id);
    let server = Server::of(&manager).await;
    let alice = Scope::user("alice");
    manager.stop(&alice, task.id).await.unwrap();
    manager.wait(&alice, task.id).await.unwrap().unwrap();
    let task = server.get("alice", &path).await.json();
    assert_eq!((&task["status"], &task["failure_reason"]), (&json!("cancelled"), &json!(null)));
    assert!(task["cancel_requested_at"].is_string() && task["completed_at"].is_string(), "{task}");
}

#[tokio::test]
async fn nobody_sees_the_tasks_of_another() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash").with_session("s1"));
    let server = Server::of(&manager).await;

    for user in ["bob", "Alice", "alice2", "ali", "*", "alic\u{435}"] {
        assert_eq!(listed(&server.get(user, "/background-tasks").await), [""; 0]);
        assert_eq!(listed(&server.get(user, "/background-tasks?session_id=s1").await), [""; 0]);
        let foreign = server.get(user, &format!("/background-tasks/{}", task.id)).await;
        let missing = server.get(user, &format!("/background-tasks/{}", TaskId::new())).await;
        foreign.expect_problem(404, "task-not-found");
        assert_eq!(foreign, missing, "the same in each byte");
    }
    assert_eq!(listed(&server.get("alice", "/background-tasks").await), ["Bash"]);
}

#[tokio::test]
async fn a_list_may_be_of_one_session() {
    let manager = TaskManager::new();
    for (user, session, name) in [
        ("alice", "s1", "a"),
        ("alice", "", "b"),
        ("alice", "s 2+é", "c"),
        ("bob", "s1", "d"),
        ("alice", "s1", "e"),
    ] {
        start(&manager, TaskMeta::new(user, name).with_session(session));
    }
    let server = Server::of(&manager).await;
    for (query, names) in [
        ("", &["a", "b", "c", "e"] as &[&str]),
        ("?", &["a", "b", "c", "e"]),
        ("?session_id=s1", &["a", "e"]),
        ("?session_id=", &["b"]),
        ("?session_id", &["b"]),
        ("?session_id=s+2%2B%C3%A9", &["c"]),
        ("?session_id=s%201", &[]),
        ("?session_id=S1", &[]),
        ("?session_id=s1&", &["a", "e"]),
    ] {
        assert_eq!(
            listed(&server.get("alice", &format!("/background-tasks{query}")).await),
            names,
            "{query}"
        );
    }
}
