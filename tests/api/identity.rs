use http::HeaderName;
use tower_offload::http::{Identity, RequestHead, Unidentified};
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};

use crate::support::{Server, listed, start};

const PATHS: [&str; 2] = ["/background-tasks", "/background-tasks/x"];

#[tokio::test]
async fn without_a_user_it_is_401_with_a_challenge() {
    let server = Server::of(&TaskManager::new()).await;
    for headers in
        [&[] as &[(&str, &[u8])], &[("X-User-ID", b"")], &[("X-User-ID", b" \t ")], &[("X-User", b"alice")]]
    {
        for path in PATHS {
            let answer = server.request("GET", path, headers).await;
            let problem = answer.expect_problem(401, "unidentified");
            assert!(problem["detail"].as_str().unwrap().contains("X-User-ID"));
            let challenge = "ApiKey realm=\"background-tasks\", header=\"X-User-ID\"";
            assert_eq!(answer.header("www-authenticate"), Some(challenge));
        }
    }
    // Whoever is nobody is told that first.
    server
        .request("GET", "/background-tasks?session_id=a&session_id=b", &[])
        .await
        .expect_problem(401, "unidentified");
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_400() {
    let manager = TaskManager::new();
    start(&manager, TaskMeta::new("alice", "Bash"));
    let server = Server::of(&manager).await;
    let (long, huge) = ([b'a'; 257], [b'a'; 10_000]);
    for (headers, reason) in [
        (vec![("X-User-ID", &b"alice"[..]), ("x-user-id", b"alice")], "only once"),
        (vec![("X-User-ID", b"alice"), ("X-User-ID", b"bob")], "only once"),
        (vec![("X-User-ID", b""), ("X-User-ID", b"alice")], "only once"),
        (vec![("X-User-ID", b"al\xffice")], "UTF-8"),
        (vec![("X-User-ID", b"\xc3")], "UTF-8"),
        (vec![("X-User-ID", &long)], "256 bytes"),
        (vec![("X-User-ID", &huge)], "256 bytes"),
    ] {
        for path in PATHS {
            let answer = server.request("GET", path, &headers).await;
            let problem = answer.expect_problem(400, "bad-request");
            assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
            assert_eq!(answer.header("www-authenticate"), None);
            assert!(answer.body.len() < 300, "nothing that was sent comes back");
        }
    }
}

#[tokio::test]
async fn any_other_header_names_its_user() {
    let manager = TaskManager::new();
    let longest = "é".repeat(128);
    let users = ["alice", "ålice", "用户", "a b", "alice, bob", "\u{a0}", "\"quoted\"", "..", &longest];
    for user in users {
        start(&manager, TaskMeta::new(user, user));
    }
    let server = Server::of(&manager).await;
    for user in users {
        assert_eq!(listed(&server.get(user, "/background-tasks").await), [user]);
        assert_eq!(listed(&server.get(&format!(" \t{user} "), "/background-tasks").await), [user]);
    }
}

#[tokio::test]
async fn another_header_can_be_chosen() {
    let manager = TaskManager::new();
    start(&manager, TaskMeta::new("alice", "Bash"));
    let identity = Identity::header(HeaderName::from_static("x-tenant"));
    let tasks = BackgroundTasks::builder(manager).identify(identity).build();
    let server = Server::start(tasks.router()).await;
    assert_eq!(
        listed(&server.request("GET", "/background-tasks", &[("X-Tenant", b"alice")]).await),
        ["Bash"]
    );
    let answer = server.get("alice", "/background-tasks").await;
    assert!(answer.expect_problem(401, "unidentified")["detail"].as_str().unwrap().contains("x-tenant"));
    assert!(answer.header("www-authenticate").unwrap().contains("header=\"x-tenant\""));
    assert!(tasks.openapi().to_json().unwrap().contains("\"name\":\"x-tenant\""));
}

#[tokio::test]
async fn a_closure_decides_who_may_ask() {
    let manager = TaskManager::new();
    for user in ["alice", "mallory", ""] {
        start(&manager, TaskMeta::new(user, "Bash"));
    }
    let header = Identity::new();
    let identity =
        move |head: &RequestHead<'_>| {
            let user = header.identify(head)?;
            match &*user {
                "alice" => Ok(user),
                "nobody" => Ok("".into()),
                "broken" => Err(Unidentified::malformed("broken")),
                _ => Err(Unidentified::new("not on the list")
                    .with_challenge(http::HeaderValue::from_static("Bearer"))),
            }
        };
    let tasks = BackgroundTasks::builder(manager).identify(identity).build();
    let server = Server::start(tasks.router()).await;
    assert_eq!(listed(&server.get("alice", "/background-tasks").await), ["Bash"]);
    let answer = server.get("mallory", "/background-tasks").await;
    assert_eq!(answer.expect_problem(401, "unidentified")["detail"], "not on the list");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    // An empty id is nobody's, even if tasks were registered for it.
    let answer = server.get("nobody", "/background-tasks").await;
    answer.expect_problem(401, "unidentified");
    assert_eq!(answer.header("www-authenticate"), Some("ApiKey realm=\"background-tasks\""));
    server.get("broken", "/background-tasks").await.expect_problem(400, "bad-request");
}
