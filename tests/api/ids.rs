use tower_offload::{TaskManager, TaskMeta};

use crate::support::{Server, start};

/// What ends up as the id is never repeated, so that all misses are the same answer.
#[tokio::test]
async fn a_strange_id_is_a_miss_like_any_other() {
    let manager = TaskManager::new();
    let task = start(&manager, TaskMeta::new("alice", "Bash"));
    let server = Server::of(&manager).await;
    let missing = server.get("alice", "/background-tasks/00000000-0000-4000-8000-000000000000").await;
    missing.expect_problem(404, "task-not-found");
    assert!(missing.body.len() < 300);

    let id = task.id.to_string();
    let mut ids = vec![
        ".".to_owned(),
        "..".to_owned(),
        "%2e%2e".to_owned(),
        "%2E%2E%2Fbackground-tasks".to_owned(),
        "%".to_owned(),
        "%2".to_owned(),
        "%zz".to_owned(),
        "%C3%A9".to_owned(),
        "%F0%9F%A6%80".to_owned(),
        "%E2%80%AE".to_owned(),
        "a%0d%0aSet-Cookie:%20a=b".to_owned(),
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        "a".repeat(10_000),
        "%C3%A9".repeat(5_000),
        "{task_id}".to_owned(),
        "*".to_owned(),
        "+".to_owned(),
        "null".to_owned(),
        "0".to_owned(),
        "a;b".to_owned(),
        "a,b".to_owned(),
        "'%20OR%201=1".to_owned(),
        id.to_uppercase(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}%20"),
        format!("%20{id}"),
        format!("{id}%00"),
        format!("{id}0"),
        id[..35].to_owned(),
    ];
    ids.extend((0..=0x7f).map(|byte: u8| format!("%{byte:02x}")));
    ids.extend((0..=0x7f).map(|byte: u8| format!("{id}%{byte:02X}")));
    for id in ids {
        let answer = server.get("alice", &format!("/background-tasks/{id}")).await;
        assert_eq!(answer, missing, "{id}");
    }
    assert_eq!(server.get("alice", &format!("/background-tasks/{id}")).await.status, 200);
    // The same id, written in another way: a URI is what it decodes to.
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(server.get("alice", &format!("/background-tasks/{encoded}")).await.status, 200);
}

#[tokio::test]
async fn an_id_that_is_not_utf_8_is_400() {
    let server = Server::of(&TaskManager::new()).await;
    for id in (0x80..=0xff).map(|byte: u8| format!("%{byte:02x}")).chain(["a%C3".into(), "%ED%A0%80".into()])
    {
        let answer = server.get("alice", &format!("/background-tasks/{id}")).await;
        assert_eq!(answer.expect_problem(400, "bad-request")["detail"], "The path must be UTF-8.", "{id}");
    }
}

/// What is no HTTP at all is refused below the router, and hurts nobody else.
#[tokio::test]
async fn bytes_that_are_no_request_leave_the_server_up() {
    let server = Server::of(&TaskManager::new()).await;
    for path in [&b"/background-tasks/\xff\xfe"[..], b"/background-tasks/\x00", b"/background-tasks/a b"] {
        let request =
            [b"GET ", path, b" HTTP/1.1\r\nHost: t\r\nX-User-ID: alice\r\nConnection: close\r\n\r\n"]
                .concat();
        let answer = server.raw(&request).await;
        assert!(!answer.starts_with(b"HTTP/1.1 5") && !answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    assert_eq!(server.get("alice", "/background-tasks").await.status, 200);
}
