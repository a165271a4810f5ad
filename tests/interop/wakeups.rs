//! Wakeups: whoever runs agents hears of the results that others deliver.

use std::convert::Infallible;

use serde_json::{Value, json};
use tower_offload::ToolResponse;
use tower_offload::bus::{SubscriptionEvent, keys};

use crate::both::Both;
use crate::ours::call;

#[tokio::test]
async fn our_result_wakes_an_agent_of_agentscope() {
    let both = Both::start().await;
    both.peer.call("dispatch_wakeups", json!({})).await;
    let done = async { Ok::<_, Infallible>(ToolResponse::text("call_1", "done in Rust")) };
    let task = both.offload(call("S", "slow"), done).await;
    let run = both.peer.event("hints", |run| run["hints"] != json!([])).await;
    assert_eq!(
        (&run["user_id"], &run["session_id"], &run["agent_id"]),
        (&json!("alice"), &json!("S"), &json!("agent"))
    );
    let text = run["hints"][0]["hint"][0]["text"].as_str().unwrap();
    assert!(text.contains("done in Rust") && text.contains(&task), "{text}");
    both.peer.event("run ended", |_| true).await;
    both.peer.is_unharmed().await;
}

/// What wakes our side: the signal after the entry.
#[tokio::test]
async fn a_result_of_agentscope_wakes_us() {
    let both = Both::start().await;
    let bus = both.bus();
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let content = json!([{"type": "text", "text": "done in Python"}]);
    let call = json!({"session": "S", "tool": "t", "call_id": "c", "secs": 0.2, "content": content});
    both.peer.call("call_tool", call).await;
    let Some(SubscriptionEvent::Message(signal)) = signals.recv().await else { panic!("a signal") };
    assert_eq!(&*signal.payload, "{}");
    let [wakeup] = bus.drain(keys::WAKEUPS, 64).await.unwrap().try_into().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&wakeup.payload).unwrap()["session_id"], "S");
    let [hint] = bus.drain(&keys::inbox("S"), 100).await.unwrap().try_into().unwrap();
    assert!(hint.payload.contains("done in Python"), "{}", hint.payload);
}
