//! AgentScope with itself: that the peer is what the other tests take it for, and the wire what we take it for.

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::redis_server::RedisServer;
use crate::until;

async fn two() -> (RedisServer, Peer, Peer) {
    let redis = RedisServer::start();
    let url = redis.url();
    let (one, two) = tokio::join!(Peer::start(&url), Peer::start(&url));
    (redis, one, two)
}

#[tokio::test]
async fn a_task_is_in_the_registry_as_long_as_it_lives() {
    let redis = RedisServer::start();
    let peer = Peer::start(&redis.url()).await;
    let arguments = json!({"session": "S", "tool": "slow — tool", "agent": "AG", "gate": "S"});
    let id = peer.call("register", arguments).await;
    let id = id.as_str().unwrap();
    let alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    assert!(id.len() == 22 && id.chars().all(|c| alphabet.contains(c)), "{id}");

    let text = peer.redis(&["HGET", "agentscope:bg_tasks:S", id]).await;
    let text = text.as_str().unwrap();
    let started_at = text
        .strip_prefix(r#"{"tool_name": "slow — tool", "agent_id": "AG", "started_at": "#)
        .and_then(|rest| rest.strip_suffix('}'));
    assert!(started_at.is_some_and(|time| time.parse::<f64>().is_ok()), "{text}");
    let ttl = peer.redis(&["TTL", "agentscope:bg_tasks:S"]).await.as_i64().unwrap();
    assert!((80_000..=86_400).contains(&ttl), "{ttl}");
    let tasks = peer.call("list", json!({"session": "S"})).await;
    assert_eq!(tasks[id]["agent_id"], "AG");

    peer.open("S").await;
    assert_eq!(peer.ended(id).await, "finished");
    until(async || (peer.call("list", json!({"session": "S"})).await == json!({})).then_some(())).await;
    peer.is_unharmed().await;
    peer.quit().await;
}

#[tokio::test]
async fn tool_stop_here_there_and_nowhere() {
    let (_redis, one, two) = two().await;
    let (here, there) = tokio::join!(one.register("S"), two.register("S"));
    let success = |text: String| ("success".to_owned(), text);
    assert_eq!(one.tool_stop("S", &here).await, success(format!("Task {here} stopped successfully.")));
    assert_eq!(one.ended(&here).await, "cancelled");
    let sent = format!("Cancel request sent for task {there}. The owning worker will stop it shortly.");
    assert_eq!(one.tool_stop("S", &there).await, success(sent));
    assert_eq!(two.ended(&there).await, "cancelled");
    let other = one.register("other").await;
    for id in ["nope", &*other] {
        let text = format!("TaskNotFoundError: The task {id} does not exist.");
        assert_eq!(two.tool_stop("S", id).await, ("error".to_owned(), text));
    }
}

#[tokio::test]
async fn sessions_are_cancelled_and_runs_are_interrupted() {
    let (_redis, one, two) = two().await;
    let task = one.register("S").await;
    let spared = one.register("other").await;
    for session in ["S", "other"] {
        one.call("run", json!({"session": session, "gate": session})).await;
        one.event("run", |run| run["session_id"] == session).await;
    }
    two.call("interrupt_session", json!({"session": "S"})).await;
    one.event("run cancelled", |run| run["session_id"] == "S").await;
    assert_eq!(one.events("ended"), [Value::Null; 0], "tasks live on");
    assert_eq!(two.call("cancel_session", json!({"session": "S"})).await, true);
    assert_eq!(one.ended(&task).await, "cancelled");
    assert_eq!(one.call("list", json!({"session": "other"})).await.as_object().unwrap().len(), 1);
    one.open("other").await;
    assert_eq!(one.ended(&spared).await, "finished");
    one.event("run ended", |run| run["session_id"] == "other").await;
}

#[tokio::test]
async fn a_hint_is_delivered_with_a_wakeup_unless_somebody_reads() {
    let (_redis, one, two) = two().await;
    let hint = one.call("deliver", json!({"session": "S", "hint": "hello", "source": "alice"})).await;
    assert_eq!(two.drain("S").await, [hint]);
    let wakeup = json!({
        "user_id": "alice", "session_id": "S", "agent_id": "agent", "kind": "wake", "input": null,
    });
    assert_eq!(two.wakeups().await, [wakeup]);

    two.call("set_consumer", json!({"session": "S"})).await;
    one.call("deliver", json!({"session": "S", "hint": "again"})).await;
    assert_eq!(two.wakeups().await, [Value::Null; 0]);
    assert_eq!(two.call("finish_consumer", json!({"session": "S"})).await, false);
    assert_eq!(two.drain("S").await[0]["hint"], "again");
    assert_eq!(two.call("finish_consumer", json!({"session": "S"})).await, true);
}

#[tokio::test]
async fn an_offloaded_tool_wakes_its_agent_wherever_it_runs() {
    let (_redis, one, two) = two().await;
    two.call("dispatch_wakeups", json!({})).await;
    let content = json!([{"type": "text", "text": "done"}]);
    let call = json!({"session": "S", "tool": "t", "call_id": "call_1", "secs": 0.3, "content": content});
    let answer = one.call("call_tool", call).await;
    assert!(answer[1]["content"][0]["text"].as_str().unwrap().contains("You will be notified"), "{answer}");
    let run = two.event("hints", |run| run["hints"] != json!([])).await;
    assert_eq!((&run["user_id"], &run["session_id"]), (&json!("alice"), &json!("S")));
    let text = "<system-notification>Tool 't' running in background (id=call_1) has completed.\n\nResult:\n\ndone\
                </system-notification>";
    assert_eq!(run["hints"][0]["hint"][0]["text"], text);
    two.is_unharmed().await;
}

#[tokio::test]
async fn a_malformed_message_ends_its_loop() {
    let (_redis, one, two) = two().await;
    assert_eq!(two.redis(&["PUBLISH", "agentscope:task:cancel", "[1]"]).await, 2);
    let subscribed = until(async || {
        let subscribed = one.call("subscribed", json!({})).await;
        (subscribed["task_cancel"] == false).then_some(subscribed)
    })
    .await;
    assert_eq!(subscribed, json!({"session_cancel": true, "task_cancel": false, "interrupt": true}));
    assert!(one.log().iter().any(|line| line.contains("task-cancel loop crashed")));
}

#[tokio::test]
async fn one_entry_that_is_no_hint_costs_all_of_its_batch() {
    let (_redis, one, two) = two().await;
    one.call("deliver", json!({"session": "S", "hint": "good"})).await;
    one.bus("queue_push", json!(["agentscope:inbox:S", {"type": "hint", "hint": 1}])).await;
    let lost = two.try_call("drain", json!({"session": "S"})).await.unwrap_err();
    assert!(lost.starts_with("ValidationError"), "{lost}");
    assert_eq!(two.drain("S").await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_lock_is_held_by_one() {
    let (_redis, one, two) = two().await;
    one.call("lock", json!({"key": "L", "ttl_secs": 600})).await;
    assert_eq!(two.bus("try_lock", json!(["L"])).await, false);
    let waiting = two.call("lock", json!({"key": "L"}));
    let releasing = async {
        one.call("unlock", json!({"key": "L"})).await;
    };
    tokio::join!(waiting, releasing);
    assert_eq!(one.bus("is_locked", json!(["L"])).await, true);
    two.call("unlock", json!({"key": "L"})).await;
    assert_eq!(one.bus("is_locked", json!(["L"])).await, false);
}
