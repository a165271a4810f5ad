use tower_offload::{TaskManager, TaskMeta};

use crate::support::{Server, listed, start};

#[tokio::test]
async fn any_method_but_get_and_head_is_405_for_everyone() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash"));
    let server = Server::of(&manager).await;
    let alice: &[(&str, &[u8])] = &[("X-User-ID", b"alice")];
    for path in ["/background-tasks", &format!("/background-tasks/{}", task.id), "/background-tasks/missing"]
    {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"] {
            for headers in [alice, &[]] {
                let answer = server.request(method, path, headers).await;
                answer.expect_problem(405, "method-not-allowed");
                assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash"));
    let server = Server::of(&manager).await;
    for (path, user) in [
        ("/background-tasks", "alice"),
        (&format!("/background-tasks/{}", task.id), "alice"),
        ("/background-tasks/missing", "alice"),
        ("/background-tasks", ""),
    ] {
        let get = server.get(user, path).await;
        let head = server.request("HEAD", path, &[("X-User-ID", user.as_bytes())]).await;
        assert_eq!(head.body, b"");
        let sorted = |mut headers: Vec<_>| {
            headers.sort();
            headers
        };
        assert_eq!((head.status, sorted(head.headers)), (get.status, sorted(get.headers)), "{path}");
    }
}

#[tokio::test]
async fn session_id_counts_once_and_other_keys_not_at_all() {
    let manager = TaskManager::new();
    start(&manager, TaskMeta::new("alice", "Bash").with_session("s1"));
    let server = Server::of(&manager).await;
    for query in [
        "a=b",
        "session=s2",
        "SESSION_ID=s2",
        "session_id[]=s2",
        "limit=0&limit=1&session_id=s1",
        "=&&%00=%ff",
    ] {
        assert_eq!(
            listed(&server.get("alice", &format!("/background-tasks?{query}")).await),
            ["Bash"],
            "{query}"
        );
    }
    for query in ["session_id=s1&session_id=s1", "session_id=&x=y&session_id=s1", "session_id&session%5fid="]
    {
        let answer = server.get("alice", &format!("/background-tasks?{query}")).await;
        let problem = answer.expect_problem(400, "bad-request");
        assert_eq!(problem["detail"], "The query may name session_id only once.", "{query}");
    }
    // Bytes that are no text match no session, and are no error.
    for query in ["session_id=%ff", "session_id=%00", &format!("session_id={}", "s".repeat(10_000))] {
        assert_eq!(listed(&server.get("alice", &format!("/background-tasks?{query}")).await), [""; 0]);
    }
    // One task is one task, in whichever session.
    let id = server.get("alice", "/background-tasks").await.json()["tasks"][0]["task_id"].clone();
    let path = format!("/background-tasks/{}?session_id=s2&session_id=s3", id.as_str().unwrap());
    assert_eq!(server.get("alice", &path).await.status, 200);
}

#[tokio::test]
async fn other_paths_are_not_ours() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash"));
    let server = Server::of(&manager).await;
    for path in [
        "/background-tasks/",
        &format!("/background-tasks/{}/", task.id),
        &format!("/background-tasks/{}/result", task.id),
        "/background-tasks//",
        "//background-tasks",
        "/Background-Tasks",
        "/background-task",
        "/",
    ] {
        let answer = server.get("alice", path).await;
        assert_eq!((answer.status, answer.text()), (404, ""), "{path}");
    }
}
