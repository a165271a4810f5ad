//! The main job, as the README tells it.

use serde_json::{Value, json};

use crate::client::{Request, read};
use crate::program::{Program, bash, lives, tool_call, until};

#[tokio::test]
async fn a_slow_tool_call_moves_to_the_background_and_its_owner_watches_it() {
    let service = Program::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();

    // It goes on until the test opens the gate.
    let command = format!("cat {}; echo done", gate.display());
    let answer = service.call("alice", "Bash", bash(&*command)).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let id = answer["metadata"]["task_id"].as_str().unwrap().to_owned();
    assert_eq!((&answer["id"], &answer["state"]), (&json!("call_1"), &json!("success")));
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(&id) && text.contains("for over 0.2s"), "{text}");

    let list = service.get("alice", "/background-tasks").await.json();
    assert_eq!(list["total"], 1);
    let task = &list["tasks"][0];
    let expected = json!({
        "task_id": id, "session_id": "s1", "agent_id": "agent", "tool_name": "Bash",
        "summary": task["summary"], "status": "running", "started_at": task["started_at"],
        "completed_at": null, "error_summary": null, "failure_reason": null, "cancel_requested_at": null,
        "call_id": "call_1",
    });
    assert_eq!(*task, expected);
    assert!(task["summary"].as_str().unwrap().starts_with("Bash(command="));
    assert_eq!(service.task("alice", &id).await, expected);
    assert_eq!(service.drain("alice").await, [Value::Null; 0]);

    let foreign = service.get("bob", &format!("/background-tasks/{id}")).await;
    let missing = service.get("bob", "/background-tasks/00000000-0000-4000-8000-000000000000").await;
    assert_eq!((foreign.status, foreign.text()), (404, missing.text()));
    assert_eq!(service.get("bob", "/background-tasks").await.json(), json!({"tasks": [], "total": 0}));
    assert_eq!(service.drain("bob").await, [Value::Null; 0]);

    tokio::fs::write(&gate, "through the gate\n").await.unwrap();
    let task = service.ended("alice", &id).await;
    assert_eq!((&task["status"], &task["error_summary"]), (&json!("completed"), &Value::Null));
    assert!(task["completed_at"].as_str().unwrap() >= task["started_at"].as_str().unwrap());

    let hints = service.hints().await;
    assert_eq!(hints.len(), 1);
    let hint = hints[0].to_string();
    for part in ["has completed", "through the gate\\ndone", "call_1", &id] {
        assert!(hint.contains(part), "{part}: {hint}");
    }
    assert_eq!(service.drain("alice").await, [Value::Null; 0], "drained is drained");
}

#[tokio::test]
async fn a_quick_call_answers_with_its_result() {
    let service = Program::start(&["--timeout-secs", "20"]).await;
    let answer = service.call("alice", "Bash", bash("echo out; echo err >&2; echo out again")).await;
    let expected = json!({
        "id": "call_1", "content": [{"type": "text", "text": "out\nerr\nout again\n"}],
        "state": "success", "metadata": {},
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    let answer = service.call("alice", "Bash", bash("echo no; exit 3")).await.json();
    assert_eq!(answer["state"], "error");
    assert_eq!(answer["content"][0]["text"], "no\n[exit status: 3]");
    // No option of bash.
    let answer = service.call("alice", "Bash", bash("--help")).await.json();
    assert_eq!(answer["state"], "error");
    assert!(answer["content"][0]["text"].as_str().unwrap().ends_with("[exit status: 127]"), "{answer}");
    let answer = service.call("alice", "Fail", json!({"seconds": 0, "message": "as asked"})).await.json();
    assert_eq!((&answer["state"], &answer["content"][0]["text"]), (&json!("error"), &json!("as asked")));
    let answer = service.call("alice", "Panic", json!({"seconds": 0})).await.json();
    assert_eq!(answer["state"], "error");
    let answer = service.call("alice", "Sleep", json!({"seconds": 0.01})).await.json();
    assert_eq!(answer["content"][0]["text"], "slept for 0.01 s");
    // Nobody reads what goes on behind it, and it holds the pipe.
    let answer = service.call("alice", "Bash", bash("sleep 1000 & echo started")).await.json();
    assert_eq!(answer["content"][0]["text"], "started\n");
    let answer = service.call("alice", "Bash", bash("setsid sleep 3 & sleep 0.1; echo started")).await.json();
    assert_eq!(answer["content"][0]["text"], "started\n", "not even if it gets away");
    assert_eq!(service.get("alice", "/background-tasks").await.json()["total"], 0);
}

#[tokio::test]
async fn failures_and_panics_are_listed_and_delivered_as_what_they_are() {
    let service = Program::start(&[]).await;
    let calls = [
        ("Bash", bash("sleep 0.5; echo broken; exit 2"), "error", "broken"),
        ("Fail", json!({"seconds": 0.5, "message": "disk full"}), "error", "disk full"),
        ("Panic", json!({"seconds": 0.5}), "panic", "as asked"),
    ];
    for (tool, input, reason, error) in calls {
        let id = service.offload("alice", tool, input).await;
        let task = service.ended("alice", &id).await;
        assert_eq!((&task["status"], &task["failure_reason"]), (&json!("failed"), &json!(reason)));
        assert!(task["error_summary"].as_str().unwrap().contains(error), "{task}");
        let hint = service.hints().await[0].to_string();
        assert!(hint.contains("has failed") && !hint.contains("has completed"), "{hint}");
        assert!(hint.contains(&id) && hint.contains(error), "{hint}");
    }
}

#[tokio::test]
async fn tool_stop_kills_all_that_the_command_has_started() {
    let service = Program::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // `timeout` and job control make groups of their own.
    let command = format!(
        "set -m; sleep 1000 & first=$!; timeout 1000 sleep 1001 & echo $$ $first $! > {}; trap '' TERM; wait; wait",
        pids.display()
    );
    let id = service.offload("alice", "Bash", bash(command)).await;
    let pids: Vec<i32> = until(async || {
        let text = std::fs::read_to_string(&pids).ok()?;
        text.ends_with('\n').then(|| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    })
    .await;
    assert!(pids.iter().all(|pid| lives(*pid)));

    let stop = async |user, session, id: &str| {
        let call = tool_call(user, session, "ToolStop", &json!({ "task_id": id }));
        service.send(call).await.json()
    };
    let foreign = stop("bob", "s1", &id).await;
    let elsewhere = stop("alice", "s2", &id).await;
    for answer in [foreign, elsewhere] {
        assert_eq!(answer["state"], "error");
        let expected = format!("TaskNotFoundError: The task {id} does not exist.");
        assert_eq!(answer["content"][0]["text"], expected);
    }
    let stopped = stop("alice", "s1", &id).await;
    assert_eq!(stopped["content"][0]["text"], format!("Task {id} stopped successfully."));
    assert_eq!(service.task("alice", &id).await["status"], "cancelled", "said so only when it is so");
    until(async || (!pids.iter().any(|pid| lives(*pid))).then_some(())).await;
    let again = stop("alice", "s1", &id).await["content"][0]["text"].to_string();
    assert!(again.contains("already") && !again.contains("stopped successfully"), "{again}");
    assert_eq!(service.get("alice", "/background-tasks").await.json()["total"], 1, "the record stays");
    assert_eq!(service.drain("alice").await, [Value::Null; 0], "nothing is said to have completed");
}

#[tokio::test]
async fn an_inbox_is_the_users_own_whatever_the_session_is_called() {
    let service = Program::start(&[]).await;
    let id = service.offload("alice", "Sleep", json!({"seconds": 0.3})).await;
    service.ended("alice", &id).await;
    assert_eq!(service.call("bob", "Nothing", json!({})).await.status, 404);
    let of_bob = service.offload("bob", "Sleep", json!({"seconds": 0.3})).await;
    service.ended("bob", &of_bob).await;
    let hints = until(async || Some(service.drain("bob").await).filter(|hints| !hints.is_empty())).await;
    assert!(hints.len() == 1 && hints[0].to_string().contains(&of_bob));
    let hints = service.hints().await;
    assert!(hints.len() == 1 && hints[0].to_string().contains(&id));
}

#[tokio::test]
async fn deleting_a_session_stops_its_tasks() {
    let service = Program::start(&[]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(service.offload("alice", "Sleep", json!({"seconds": 1000})).await);
    }
    let done = service.offload("alice", "Sleep", json!({"seconds": 0.3})).await;
    service.ended("alice", &done).await;
    let delete = async |user| {
        let request = Request::new("DELETE", "/sessions/s1").header("X-User-ID", user);
        service.send(request).await.json()
    };
    assert_eq!(delete("bob").await, json!({"cancelled": 0}));
    assert_eq!(delete("alice").await, json!({"cancelled": 3}));
    for id in ids {
        assert_eq!(service.ended("alice", &id).await["status"], "cancelled");
    }
    assert_eq!(delete("alice").await, json!({"cancelled": 0}));
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_deadline_takes_the_command_along() {
    let service = Program::start(&["--timeout-secs", "1000"]).await;
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let command = format!("echo $$ > {}; sleep 1000", pid.display());
    let connection = tool_call("alice", "s1", "Bash", &bash(command)).write(&service.address).await;
    let pid: i32 = until(async || std::fs::read_to_string(&pid).ok()?.trim().parse().ok()).await;
    assert!(lives(pid));
    drop(connection);
    until(async || (!lives(pid)).then_some(())).await;
    assert_eq!(service.get("alice", "/background-tasks").await.json()["total"], 0);
}

#[tokio::test]
async fn retention_and_the_session_filter_are_what_the_arguments_say() {
    let service = Program::start(&["--max-retained", "2", "--timeout-secs", "0"]).await;
    for _ in 0..4 {
        let id = service.offload("alice", "Sleep", json!({"seconds": 0.01})).await;
        until(async || {
            let answer = service.get("alice", &format!("/background-tasks/{id}")).await;
            (answer.json()["status"] == "completed").then_some(())
        })
        .await;
    }
    let total = async |query: &str| service.get("alice", &format!("/background-tasks{query}")).await.json();
    assert_eq!(total("").await["total"], 2);
    assert_eq!(total("?session_id=s1").await["total"], 2);
    assert_eq!(total("?session_id=s2&more=1").await["total"], 0);
    assert_eq!(total("?session_id=").await["total"], 0);
}

#[tokio::test]
async fn only_the_users_that_are_listed_may_in() {
    let service = Program::start(&["--users", "alice, bob"]).await;
    assert_eq!(service.get("alice", "/background-tasks").await.status, 200);
    assert_eq!(service.get("bob", "/background-tasks").await.status, 200);
    for path in ["/background-tasks", "/background-tasks/x"] {
        let answer = service.get("mallory", path).await;
        assert_eq!((answer.status, &*answer.headers["content-type"]), (401, "application/problem+json"));
    }
    assert_eq!(service.call("mallory", "Bash", bash("true")).await.status, 401);
}

#[tokio::test]
async fn the_greeting_the_document_and_swagger_ui_are_there() {
    let mut service = Program::start(&[]).await;
    let url = format!("http://{}", service.address);
    assert!(service.line().await.unwrap().ends_with(&format!("{url}/swagger-ui/")));
    assert!(service.line().await.unwrap().ends_with(&format!("{url}/api-docs/openapi.json")));
    assert!(service.line().await.unwrap().contains("curl -H 'X-User-ID: alice'"));
    let page = service.send(Request::new("GET", "/swagger-ui/")).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("swagger-ui-bundle.js"));
    let redirect = service.send(Request::new("GET", "/swagger-ui")).await;
    assert!([301, 303, 307, 308].contains(&redirect.status), "{}", redirect.status);
}

#[tokio::test]
async fn a_hundred_callers_at_once() {
    let service = Program::start(&["--max-retained", "1000"]).await;
    let mut connections = Vec::new();
    for n in 0..100 {
        let call = tool_call("alice", "s1", "Sleep", &json!({"seconds": 0.5 + f64::from(n) / 1000.0}));
        connections.push(call.write(&service.address).await);
    }
    let mut ids = std::collections::HashSet::new();
    for connection in connections {
        ids.insert(read(connection).await.json()["metadata"]["task_id"].to_string());
    }
    assert_eq!(ids.len(), 100);
    until(async || {
        let list = service.get("alice", "/background-tasks").await.json();
        assert_eq!(list["total"], 100);
        list["tasks"].as_array().unwrap().iter().all(|task| task["status"] == "completed").then_some(())
    })
    .await;
    let mut hints = 0;
    until(async || {
        hints += service.drain("alice").await.len();
        (hints == 100).then_some(())
    })
    .await;
}
