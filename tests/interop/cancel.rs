//! Cancels and interrupts, in both directions; and what must not hurt whoever listens.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_offload::bus::keys;
use tower_offload::bus::message::{SessionSignal, TaskCancel};
use tower_offload::task::Scope;
use tower_offload::{CancelDispatcher, TaskId, TaskManager, TaskMeta, ToolStop};

use crate::both::Both;
use crate::ours::call;
use crate::patience::PATIENCE;

/// A task of alice in `session` that ends when it is stopped.
fn endless(manager: &TaskManager, session: &str) -> TaskId {
    let meta = TaskMeta::new("alice", "endless").with_session(session);
    manager.spawn(meta, std::future::pending::<()>()).unwrap().id
}

async fn status(manager: &TaskManager, id: TaskId) -> String {
    manager.get(&Scope::user("alice"), id).await.unwrap().unwrap().status.to_string()
}

async fn cancelled(manager: &TaskManager, id: TaskId) {
    let scope = Scope::user("alice");
    let waiting = manager.wait(&scope, id);
    let task = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(task.status.as_str(), "cancelled");
}

#[tokio::test]
async fn agentscope_cancels_our_task() {
    let Both { manager, peer, .. } = &Both::start().await;
    let _dispatcher = CancelDispatcher::start(manager).await.unwrap();
    let (one, other) = (endless(manager, "S"), endless(manager, "S"));
    peer.bus("publish", json!([keys::TASK_CANCEL, {"task_id": one.to_string(), "more": [1]}])).await;
    cancelled(manager, one).await;
    assert_eq!(status(manager, other).await, "running");
}

#[tokio::test]
async fn agentscope_cancels_and_interrupts_our_session() {
    let Both { manager, peer, .. } = &Both::start().await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let (on_cancel, on_interrupt) = (sender.clone(), sender);
    let _dispatcher = CancelDispatcher::builder(manager)
        .on_session_cancel(move |signal| on_cancel.send(("cancel", signal.session_id.clone())).unwrap())
        .on_interrupt(move |signal| on_interrupt.send(("interrupt", signal.session_id.clone())).unwrap())
        .start()
        .await
        .unwrap();
    let (task, spared) = (endless(manager, "S — ü"), endless(manager, "other"));

    // AgentScope interrupts what holds the run lock.
    let run_lock = "agentscope:session:lock:S — ü";
    let long = Duration::from_secs(600);
    assert!(manager.bus().try_acquire(run_lock, "run", long).await.unwrap());
    peer.call("interrupt_session", json!({"session": "S — ü"})).await;
    assert_eq!(told.recv().await.unwrap(), ("interrupt", "S — ü".to_owned()));
    assert_eq!(status(manager, task).await, "running");

    // And when it cancels a session it waits until the run is gone.
    let cancelling = peer.call("cancel_session", json!({"session": "S — ü", "timeout": 300.0}));
    let ending = async {
        assert_eq!(told.recv().await.unwrap(), ("cancel", "S — ü".to_owned()));
        assert!(manager.bus().release(run_lock, "run").await.unwrap());
    };
    let (confirmed, ()) = tokio::join!(cancelling, ending);
    assert_eq!(confirmed, true);
    cancelled(manager, task).await;
    assert_eq!(status(manager, spared).await, "running");
}

#[tokio::test]
async fn we_cancel_what_agentscope_runs() {
    let Both { manager, peer, .. } = &Both::start().await;
    let publish = async |channel, message: Value| {
        manager.bus().publish(channel, &message.to_string()).await.unwrap();
    };
    let session =
        |session: &str| json!(SessionSignal { session_id: session.into(), user_id: Some("alice".into()) });
    let (one, two, three) = (peer.register("S").await, peer.register("S").await, peer.register("T").await);
    for session in ["S", "T"] {
        peer.call("run", json!({"session": session, "gate": session})).await;
        peer.event("run", |run| run["session_id"] == session).await;
    }
    let cancel =
        TaskCancel { task_id: one.clone(), session_id: Some("S".into()), user_id: Some("alice".into()) };
    publish(keys::TASK_CANCEL, json!(cancel)).await;
    assert_eq!(peer.ended(&one).await, "cancelled");
    publish(keys::SESSION_INTERRUPT, session("S")).await;
    peer.event("run cancelled", |run| run["session_id"] == "S").await;
    assert_eq!(peer.events("ended").len(), 1, "its tasks live on");
    publish(keys::SESSION_CANCEL, session("S")).await;
    assert_eq!(peer.ended(&two).await, "cancelled");
    peer.open("T").await;
    assert_eq!(peer.ended(&three).await, "finished");
    peer.event("run ended", |run| run["session_id"] == "T").await;
    peer.is_unharmed().await;
}

#[tokio::test]
async fn our_tool_stop_reaches_what_agentscope_runs() {
    let Both { manager, peer, .. } = &Both::start().await;
    let task = peer.register("S").await;
    let stop = async |session| {
        let call = call(session, ToolStop::NAME);
        let call = tower_offload::ToolCall::new(ToolStop::NAME, json!({"task_id": task}).to_string())
            .with_user(call.user_id())
            .with_session(session)
            .with_agent(call.agent_id());
        let answer = ToolStop::new(manager.clone()).run(&call).await;
        (answer.state.to_string(), answer.content[0].as_text().unwrap().to_owned())
    };
    let missing = format!("TaskNotFoundError: The task {task} does not exist.");
    assert_eq!(stop("other").await, ("error".to_owned(), missing.clone()));
    let sent = format!("Cancel request sent for task {task}. The owning worker will stop it shortly.");
    assert_eq!(stop("S").await, ("success".to_owned(), sent));
    assert_eq!(peer.ended(&task).await, "cancelled");
    crate::until(async || (stop("S").await == ("error".to_owned(), missing.clone())).then_some(())).await;
    peer.is_unharmed().await;
}

/// What would end the loops of AgentScope for good.
#[tokio::test]
async fn what_is_malformed_is_nothing_to_us() {
    let Both { manager, peer, .. } = &Both::start().await;
    let _dispatcher = CancelDispatcher::start(manager).await.unwrap();
    let spared = endless(manager, "");
    let deep = "[".repeat(100_000);
    let texts = [
        "",
        "{",
        "[1]",
        "null",
        "1",
        "NaN",
        "\"S\"",
        "{}",
        &deep,
        "{\"session_id\": \"\"}",
        "\u{feff}{}",
        r#"{"session_id": 1, "task_id": 1}"#,
        r#"{"session_id": null, "task_id": null}"#,
        r#"{"session_id": ["S"], "task_id": {"S": 1}}"#,
        r#"{"task_id": "nobody's", "session_id": "nobody's"}"#,
    ];
    for channel in [keys::TASK_CANCEL, keys::SESSION_CANCEL, keys::SESSION_INTERRUPT, keys::WAKEUP_SIGNAL] {
        for text in texts {
            peer.redis(&["PUBLISH", channel, text]).await;
        }
        peer.call("redis", json!({"args": ["PUBLISH", channel, {"hex": "7b22fffe00"}]})).await;
    }
    // Each channel still listens.
    let (one, two) = (endless(manager, "S"), endless(manager, "T"));
    peer.bus("publish", json!([keys::TASK_CANCEL, {"task_id": one.to_string()}])).await;
    cancelled(manager, one).await;
    peer.bus("publish", json!([keys::SESSION_CANCEL, {"session_id": "T"}])).await;
    cancelled(manager, two).await;
    assert_eq!(status(manager, spared).await, "running");
}
