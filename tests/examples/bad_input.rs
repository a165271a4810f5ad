//! Whatever is sent: a clear problem, never a 500, and the service goes on.

use serde_json::{Value, json};

use crate::client::{Answer, Request};
use crate::program::{Program, tool_call};

fn problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for part in ["type", "title", "detail"] {
        assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {problem}");
    }
}

#[tokio::test]
async fn users_that_are_missing_or_unreadable() {
    let service = Program::start(&[]).await;
    let routes = [
        ("GET", "/background-tasks"),
        ("GET", "/background-tasks/x"),
        ("POST", "/sessions/s1/tools/Sleep"),
        ("POST", "/sessions/s1/inbox/drain"),
        ("DELETE", "/sessions/s1"),
    ];
    for (method, path) in routes {
        let request = || Request::new(method, path).body(r#"{"seconds": 0}"#);
        let missing = service.send(request()).await;
        problem(&missing, 401);
        assert!(missing.headers.contains_key("www-authenticate"));
        problem(&service.send(request().header("X-User-ID", "")).await, 401);
        problem(&service.send(request().header("X-User-ID", "  ")).await, 401);
        let repeated = request().header("X-User-ID", "alice").header("X-User-ID", "alice");
        problem(&service.send(repeated).await, 400);
        problem(&service.send(request().header("X-User-ID", b"\xff\xfe")).await, 400);
        problem(&service.send(request().header("X-User-ID", "a".repeat(10_240))).await, 400);
        let unicode = service.send(request().header("X-User-ID", "Zoë")).await;
        assert_ne!(unicode.status, 400, "{}", unicode.text());
    }
}

#[tokio::test]
async fn bodies_of_every_kind() {
    let service = Program::start(&[]).await;
    let send = async |tool: &str, body: &[u8]| {
        let request =
            Request::new("POST", &format!("/sessions/s1/tools/{tool}")).header("X-User-ID", "alice");
        service.send(request.body(body)).await
    };
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 12] = [
        b"",
        b" ",
        b"x",
        b"null",
        b"7",
        b"[]",
        b"\"text\"",
        b"{",
        b"{\"command\": 7}",
        b"{}",
        b"\xff\xfe",
        deep.as_bytes(),
    ];
    for body in bodies {
        problem(&send("Bash", body).await, 400);
        problem(&send("ToolStop", body).await, 400);
    }
    problem(&send("Bash", br#"{"command": "echo \u0000"}"#).await, 400);
    let huge = json!({"command": "x".repeat(3 << 20)}).to_string();
    problem(&send("Bash", huge.as_bytes()).await, 413);
    problem(&send("Nothing", b"{}").await, 404);
    problem(&send("bash", br#"{"command": "true"}"#).await, 404);
    for seconds in ["-1", "-0.5", "1e300", "1e400", "-1e400", "\"1\"", "null", "NaN", "18446744073709551616"]
    {
        problem(&send("Sleep", format!("{{\"seconds\": {seconds}}}").as_bytes()).await, 400);
        let fail = format!("{{\"seconds\": {seconds}, \"message\": \"\"}}");
        problem(&send("Fail", fail.as_bytes()).await, 400);
    }
    let answer = send("Sleep", br#"{"seconds": 1e9}"#).await;
    assert_eq!(answer.status, 200);
    let id = answer.json()["metadata"]["task_id"].as_str().unwrap().to_owned();
    assert_eq!(service.task("alice", &id).await["status"], "running");
}

#[tokio::test]
async fn ids_of_every_kind() {
    let service = Program::start(&[]).await;
    let long = "a".repeat(10_240);
    let ids = ["x", "%00", "%0A", "..%2F..%2Fetc", "%F0%9F%98%80", "%7B%7D", "'\"", "a%20b", &long, "%2e%2e"];
    for id in ids {
        problem(&service.get("alice", &format!("/background-tasks/{id}")).await, 404);
        let stop = tool_call("alice", "s1", "ToolStop", &json!({ "task_id": id }));
        let answer = service.send(stop).await;
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("error")));
    }
    problem(&service.get("alice", "/background-tasks/%FF%FE").await, 400);
    problem(&service.get("alice", "/background-tasks?session_id=a&session_id=b").await, 400);
    problem(&service.get("alice", "/background-tasks/").await, 404);
    problem(&service.get("alice", "/nothing").await, 404);
    for session in ["%FF", &long] {
        let call = tool_call("alice", session, "Sleep", &json!({"seconds": 0}));
        problem(&service.send(call).await, 400);
    }
    for session in ["a%20b", "%F0%9F%98%80", "lock:s1", "%00"] {
        let call = tool_call("alice", session, "Sleep", &json!({"seconds": 0}));
        assert_eq!(service.send(call).await.status, 200);
    }
    let sleep = json!({"seconds": 0});
    for header in [&b"\xff"[..], long.as_bytes()] {
        problem(
            &service.send(tool_call("alice", "s1", "Sleep", &sleep).header("X-Agent-ID", header)).await,
            400,
        );
    }
    // The helper sends one already.
    problem(
        &service.send(tool_call("alice", "s1", "Sleep", &sleep).header("X-Tool-Call-ID", "2")).await,
        400,
    );
}

#[tokio::test]
async fn methods_that_are_not_there() {
    let service = Program::start(&[]).await;
    for path in ["/background-tasks", "/background-tasks/x"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = service.send(Request::new(method, path).header("X-User-ID", "alice")).await;
            problem(&answer, 405);
            assert!(answer.headers["allow"].contains("GET"));
        }
    }
    for (method, path) in
        [("GET", "/sessions/s1/tools/Bash"), ("GET", "/sessions/s1"), ("PUT", "/sessions/s1")]
    {
        problem(&service.send(Request::new(method, path).header("X-User-ID", "alice")).await, 405);
    }
    let head = service.send(Request::new("HEAD", "/background-tasks").header("X-User-ID", "alice")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn arguments_that_cannot_be() {
    let program = crate::program::example("agent_service").await;
    let wrong = [
        ["--timeout-secs", "-1"],
        ["--timeout-secs", "inf"],
        ["--timeout-secs", "NaN"],
        ["--timeout-secs", "1e300"],
        ["--timeout-secs", "ten"],
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1:99999"],
        ["--listen", "192.0.2.1:1"],
        ["--max-retained", "-1"],
        ["--users", ""],
        ["--users", "alice,,bob"],
        ["--allow-host", ""],
        ["--allow-host", "http://agent.example"],
        ["--allow-host", "agent.example:8000"],
        ["--allow-host", "*"],
        ["--allow-host", "ag\u{e9}nt.example"],
        ["--unknown", "1"],
    ];
    for args in wrong {
        let output = tokio::process::Command::new(&program).args(args).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {:?}", output.status);
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{args:?}: {error}");
        assert_eq!(output.stdout, Value::Null.to_string().as_bytes()[..0]);
    }
}
