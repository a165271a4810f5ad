//! Tasks in the registry that both sides share: who sees them, who stops them, and what becomes of them.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tower_offload::bus::keys;
use tower_offload::manager::StopOutcome;
use tower_offload::task::Scope;
use tower_offload::{CancelDispatcher, TaskId, TaskManager, TaskMeta, ToolCall, ToolResponse, ToolStop};

use crate::both::Both;
use crate::ours::manager;
use crate::patience::PATIENCE;
use crate::peer::{Peer, array};
use crate::program::Program;
use crate::until;

/// A task of alice in session `S` that ends when it is stopped.
fn endless(manager: &TaskManager) -> TaskId {
    let meta = TaskMeta::new("alice", "end — less").with_session("S").with_agent("AG");
    manager.spawn(meta, std::future::pending::<()>()).unwrap().id
}

/// The entry of a task, as AgentScope lists it, once it is there.
async fn entry(peer: &Peer, session: &str, id: &str) -> Value {
    until(async || peer.call("list", json!({ "session": session })).await.get(id).cloned()).await
}

async fn gone(peer: &Peer, session: &str, id: &str) {
    until(async || peer.call("list", json!({ "session": session })).await.get(id).is_none().then_some(()))
        .await;
}

async fn cancelled(manager: &TaskManager, id: TaskId) {
    let scope = Scope::user("alice");
    let waiting = manager.wait(&scope, id);
    let task = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(task.status.as_str(), "cancelled");
}

async fn stop(manager: &TaskManager, session: &str, id: &str) -> ToolResponse {
    let input = json!({ "task_id": id }).to_string();
    let call = ToolCall::new(ToolStop::NAME, input).with_user("alice").with_session(session);
    ToolStop::new(manager.clone()).run(&call).await
}

fn text(response: &ToolResponse) -> &str {
    response.content[0].as_text().unwrap()
}

#[tokio::test]
async fn our_task_is_listed_as_long_as_it_runs() {
    let Both { manager, peer, .. } = &Both::start().await;
    let (ending, end) = tokio::sync::oneshot::channel::<()>();
    let meta = TaskMeta::new("alice", "slow — tool").with_session("S").with_agent("AG");
    let task = manager.spawn(meta, async { end.await.unwrap() }).unwrap();
    let id = task.id.to_string();
    let entry = entry(peer, "S", &id).await;
    assert_eq!((&entry["tool_name"], &entry["agent_id"]), (&json!("slow — tool"), &json!("AG")));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - entry["started_at"].as_f64().expect("a number of seconds");
    assert!((-1.0..3600.0).contains(&age), "{age}");
    ending.send(()).unwrap();
    gone(peer, "S", &id).await;
    peer.is_unharmed().await;
}

#[tokio::test]
async fn tool_stop_of_agentscope_stops_our_task() {
    let Both { manager, peer, .. } = &Both::start().await;
    let _dispatcher = CancelDispatcher::start(manager).await.unwrap();
    let (task, spared) = (endless(manager), endless(manager));
    let id = task.to_string();
    entry(peer, "S", &id).await;
    let missing = ("error".to_owned(), format!("TaskNotFoundError: The task {id} does not exist."));
    assert_eq!(peer.tool_stop("other", &id).await, missing);
    let sent = format!("Cancel request sent for task {id}. The owning worker will stop it shortly.");
    assert_eq!(peer.tool_stop("S", &id).await, ("success".to_owned(), sent));
    cancelled(manager, task).await;
    gone(peer, "S", &id).await;
    assert_eq!(peer.tool_stop("S", &id).await, missing);
    entry(peer, "S", &spared.to_string()).await;
    assert_eq!(peer.drain("S").await, [Value::Null; 0], "nothing is said to have completed");
}

#[tokio::test]
async fn our_tool_stop_reaches_both_kinds_of_processes() {
    let both = Both::start().await;
    let (peer, here) = (&both.peer, &both.manager);
    let there = manager(&both.redis);
    let _dispatcher = CancelDispatcher::start(&there).await.unwrap();
    let ours = endless(&there);
    let theirs = peer.register("S").await;
    entry(peer, "S", &ours.to_string()).await;
    for id in [&*ours.to_string(), &theirs] {
        let answer = stop(here, "S", id).await;
        assert!(answer.state.as_str() == "success" && text(&answer).contains(id), "{answer:?}");
    }
    cancelled(&there, ours).await;
    assert_eq!(peer.ended(&theirs).await, "cancelled");
    for id in [&*ours.to_string(), &theirs] {
        gone(peer, "S", id).await;
    }
    peer.is_unharmed().await;
}

#[tokio::test]
async fn what_others_write_disturbs_nobody() {
    let Both { manager, peer, .. } = &Both::start().await;
    let registry = keys::background_tasks("S");
    let theirs = peer.register("S").await;
    for (field, value) in
        [("no json", "{"), ("no object", "[1]"), ("", ""), ("no time", "{\"tool_name\": 1}")]
    {
        peer.redis(&["HSET", &registry, field, value]).await;
    }
    let ours = endless(manager);
    entry_exists(peer, &registry, &ours.to_string()).await;
    let scope = Scope::user("alice");
    let tasks: Vec<_> = manager.list(&scope).await.unwrap().into_iter().map(|task| task.id).collect();
    assert_eq!(tasks, [ours], "whose the others are is not known");
    for id in [&*theirs, "no json", ""] {
        let stop = manager.stop_foreign(&scope, id).await.unwrap();
        assert_eq!(stop, StopOutcome::NotFound, "the scope names no session");
    }
    // A task of AgentScope must outlive our leases.
    let ttl = peer.redis(&["TTL", &registry]).await.as_i64().unwrap();
    assert!(ttl == -1 || ttl > 80_000, "{ttl}");
    assert_eq!(peer.tool_stop("S", &theirs).await.0, "success");
}

/// The registry of AgentScope expires as a whole, and is deleted with the session.
#[tokio::test]
async fn a_live_task_comes_back_into_the_registry() {
    let Both { manager, peer, .. } = &Both::start().await;
    let registry = keys::background_tasks("S");
    let task = endless(manager).to_string();
    entry(peer, "S", &task).await;
    peer.redis(&["DEL", &registry]).await;
    entry(peer, "S", &task).await;
}

async fn entry_exists(peer: &Peer, registry: &str, id: &str) {
    until(async || (peer.redis(&["HEXISTS", registry, id]).await == true).then_some(())).await;
}

/// Where the example keeps a task: how it names sessions is its own business.
async fn session_of(peer: &Peer, id: &str) -> String {
    until(async || {
        for registry in array(peer.redis(&["KEYS", "agentscope:bg_tasks:*"]).await) {
            let registry = registry.as_str().unwrap();
            if peer.redis(&["HEXISTS", registry, id]).await == true {
                return Some(registry.strip_prefix("agentscope:bg_tasks:").unwrap().to_owned());
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn the_service_and_agentscope_side_by_side() {
    let both = Both::start().await;
    let peer = &both.peer;
    peer.call("dispatch_wakeups", json!({})).await;
    let service = Program::start(&["--redis", &both.redis.url()]).await;

    // AgentScope's agent hears of a result.
    let done = service.offload("alice", "Bash", json!({"command": "sleep 0.5; echo from Rust"})).await;
    assert_eq!(service.ended("alice", &done).await["status"], "completed");
    let run = peer.event("hints", |run| run["hints"] != json!([])).await;
    assert!(run["hints"].to_string().contains("from Rust") && run["user_id"] == "alice", "{run}");

    // And stops what runs in the service.
    let task = service.offload("alice", "Sleep", json!({"seconds": 1000})).await;
    let session = session_of(peer, &task).await;
    assert_eq!(peer.tool_stop(&session, &task).await.0, "success");
    assert_eq!(service.ended("alice", &task).await["status"], "cancelled");

    // The service stops what runs in AgentScope.
    let theirs = peer.register(&session).await;
    let answer = service.call("alice", "ToolStop", json!({"task_id": theirs})).await.json();
    assert_eq!(answer["state"], "success", "{answer}");
    assert_eq!(peer.ended(&theirs).await, "cancelled");
    peer.is_unharmed().await;
}

#[tokio::test]
async fn a_task_of_a_process_that_died_is_not_listed_for_ever() {
    let both = Both::start().await;
    let peer = &both.peer;
    let url = both.redis.url();
    let shared = ["--redis", &*url];
    let (service, other) = tokio::join!(Program::start(&shared), Program::start(&shared));
    let task = service.offload("alice", "Sleep", json!({"seconds": 1000})).await;
    let session = session_of(peer, &task).await;
    service.end(Signal::SIGKILL).await;
    let seen = other.ended("alice", &task).await;
    assert_eq!((&seen["status"], &seen["failure_reason"]), (&json!("failed"), &json!("worker_lost")));
    gone(peer, &session, &task).await;
    assert_eq!(peer.tool_stop(&session, &task).await.0, "error");
    peer.is_unharmed().await;
}
