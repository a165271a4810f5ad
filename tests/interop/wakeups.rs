//! Wakeups: whoever runs agents hears of the results that others deliver.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::{Value, json};
use tower_offload::ToolResponse;
use tower_offload::bus::{SubscriptionEvent, keys};

use crate::both::Both;
use crate::inbox::delivery;
use crate::ours::{call, manager};
use crate::peer::Peer;
use crate::until;

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

/// Two processes of AgentScope run the agents of some sessions, and we deliver to all of them at once.
#[tokio::test]
async fn all_that_many_deliver_is_read_once() {
    const SESSIONS: usize = 5;
    const HINTS: usize = 300;
    let both = Both::start().await;
    let other = Peer::start(&both.redis.url()).await;
    let peers = [&both.peer, &other];
    for peer in peers {
        peer.call("dispatch_wakeups", json!({})).await;
    }
    let managers = [manager(&both.redis), manager(&both.redis)];
    let ours = async {
        for n in 0..HINTS {
            let hint = delivery(&format!("S{}", n % SESSIONS), &format!("ours {n}"));
            managers[n % 2].bus().deliver(&hint).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_micros(n as u64 * 7919 % 6000)).await;
        }
    };
    let theirs = async {
        for n in 0..HINTS / 3 {
            let hint = json!({"session": format!("S{}", n % SESSIONS), "hint": format!("theirs {n}")});
            peers[n % 2].call("deliver", hint).await;
        }
    };
    tokio::join!(ours, theirs);
    let read = || {
        let mut read = BTreeMap::<String, usize>::new();
        for run in peers.iter().flat_map(|peer| peer.events("hints")) {
            for hint in run["hints"].as_array().unwrap() {
                *read.entry(hint["hint"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        read
    };
    until(async || (read().len() == HINTS + HINTS / 3).then_some(())).await;
    assert!(read().values().all(|times| *times == 1), "{:?}", read());
    // And then there is rest.
    until(async || {
        let left = both.peer.redis(&["XLEN", keys::WAKEUPS]).await;
        let ended: usize = peers.iter().map(|peer| peer.events("run ended").len()).sum();
        let begun: usize = peers.iter().map(|peer| peer.events("run").len()).sum();
        (left == 0 && ended == begun).then_some(())
    })
    .await;
    for peer in peers {
        peer.is_unharmed().await;
    }
}
