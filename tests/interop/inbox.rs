//! Deliveries: the inbox, the flag of whoever reads it, and the wakeup.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_offload::TaskMeta;
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{Delivery, SharedBus, keys};

use crate::both::Both;
use crate::peer::Peer;

/// A delivery to `session` of the hint that says `text`, once for each text.
pub(crate) fn delivery(session: &str, text: &str) -> Delivery {
    let meta = TaskMeta::new("alice", "tool").with_session(session).with_agent("agent");
    Delivery::new(text, &meta, json!({"type": "hint", "hint": text}).to_string())
}

async fn texts(peer: &Peer, session: &str) -> Vec<String> {
    peer.drain(session).await.iter().map(|hint| hint["hint"].as_str().unwrap().to_owned()).collect()
}

fn wake(session: &str) -> Value {
    json!({"user_id": "alice", "session_id": session, "agent_id": "agent", "kind": "wake", "input": null})
}

#[tokio::test]
async fn what_we_deliver_agentscope_drains() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    peer.call("listen", json!({"channel": keys::WAKEUP_SIGNAL})).await;
    assert!(bus.deliver(&delivery("S ü", "one")).await.unwrap());
    let wakeups = peer.redis(&["XRANGE", keys::WAKEUPS, "-", "+"]).await;
    let bytes =
        r#"{"user_id": "alice", "session_id": "S ü", "agent_id": "agent", "kind": "wake", "input": null}"#;
    let text = wakeups[0][1]["payload"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), wake("S ü"));
    assert_eq!(text.replace(' ', ""), bytes.replace(' ', ""));
    assert_eq!(peer.wakeups().await, [wake("S ü")]);
    assert_eq!(peer.event("published", |_| true).await["payload"], json!({}));

    // What is repeated is not delivered again, whether it was read or not.
    for _ in 0..2 {
        assert!(!bus.deliver(&delivery("S ü", "one")).await.unwrap());
    }
    assert!(bus.deliver(&delivery("S ü", "two")).await.unwrap());
    assert_eq!(texts(peer, "S ü").await, ["one", "two"]);
    assert!(!bus.deliver(&delivery("S ü", "one")).await.unwrap());
    assert_eq!(texts(peer, "S ü").await, [""; 0]);
    assert_eq!(peer.wakeups().await, [wake("S ü")]);
}

#[tokio::test]
async fn what_agentscope_delivers_we_drain() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let hint = peer.call("deliver", json!({"session": "S", "hint": "ü \u{0} 🦀", "source": "bob"})).await;
    let [entry] = bus.drain(&keys::inbox("S"), 100).await.unwrap().try_into().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&entry.payload).unwrap(), hint);
    let [wakeup] = bus.drain(keys::WAKEUPS, 100).await.unwrap().try_into().unwrap();
    let wakeup: Wakeup = serde_json::from_str(&wakeup.payload).unwrap();
    assert_eq!(wakeup, Wakeup::wake("alice", "S", "agent"));
    // With input, as its front ends send it.
    peer.call("interrupt_session", json!({"session": "S"})).await;
    let [wakeup] = bus.drain(keys::WAKEUPS, 100).await.unwrap().try_into().unwrap();
    let wakeup: Wakeup = serde_json::from_str(&wakeup.payload).unwrap();
    assert!(wakeup.kind == "resume" && wakeup.input.is_some(), "{wakeup:?}");
}

#[tokio::test]
async fn nobody_is_woken_who_reads_already() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    peer.call("set_consumer", json!({"session": "S"})).await;
    assert!(!bus.deliver(&delivery("S", "one")).await.unwrap());
    assert_eq!(peer.call("finish_consumer", json!({"session": "S"})).await, false);
    assert_eq!(texts(peer, "S").await, ["one"]);
    assert_eq!(peer.call("finish_consumer", json!({"session": "S"})).await, true);
    assert_eq!(peer.wakeups().await, [Value::Null; 0]);
    assert!(bus.deliver(&delivery("S", "two")).await.unwrap());

    // And a run of ours is not woken by AgentScope.
    let consumer = keys::inbox_consumer("T");
    bus.set(&consumer, keys::CONSUMER_RUNNING, "1", Some(Duration::from_secs(600))).await.unwrap();
    peer.call("deliver", json!({"session": "T", "hint": "three"})).await;
    assert_eq!(peer.wakeups().await, [wake("S")]);
    bus.remove(&consumer, keys::CONSUMER_RUNNING).await.unwrap();
    peer.call("deliver", json!({"session": "T", "hint": "four"})).await;
    assert_eq!(peer.wakeups().await, [wake("T")]);
}

/// Whoever is about to finish has looked already, and has not said so yet.
#[tokio::test]
async fn a_delivery_waits_for_whoever_holds_the_inbox() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let (lock, consumer) = (keys::inbox_lock("S"), keys::inbox_consumer("S"));
    peer.call("set_consumer", json!({"session": "S"})).await;
    peer.call("lock", json!({"key": lock, "ttl_secs": 600})).await;
    let delivering = tokio::spawn({
        let bus = SharedBus::clone(bus);
        async move { bus.deliver(&delivery("S", "one")).await }
    });
    // Long enough for many attempts.
    let start = Instant::now();
    crate::until(async || {
        assert_eq!(peer.redis(&["XLEN", &keys::inbox("S")]).await, 0);
        (start.elapsed() > Duration::from_millis(500)).then_some(())
    })
    .await;
    assert!(!delivering.is_finished());
    peer.bus("registry_del", json!([consumer, keys::CONSUMER_RUNNING])).await;
    peer.call("unlock", json!({"key": lock})).await;
    assert!(delivering.await.unwrap().unwrap(), "the flag is gone, so that there is a wakeup");
    assert_eq!(texts(peer, "S").await, ["one"]);
}

/// A run of AgentScope that ends while results arrive, again and again: nothing is left where nobody looks.
#[tokio::test]
async fn no_result_is_left_behind() {
    const ROUNDS: usize = 150;
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let (mut read, mut woken) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let begun = peer.events("hints").len() + 1;
        peer.call("run", json!({"session": "S"})).await;
        // It has looked into its inbox, and will look once more before it ends: in the next few milliseconds each
        // step is met in some round. Timers are too coarse for that.
        peer.until_events("hints", begun).await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(round as u64 * 773 % 4000) {
            tokio::task::yield_now().await;
        }
        bus.deliver(&delivery("S", &round.to_string())).await.unwrap();
        peer.until_events("run ended", round + 1).await;
        let flag = peer.redis(&["HEXISTS", &keys::inbox_consumer("S"), keys::CONSUMER_RUNNING]).await;
        assert_eq!(flag, false, "the run has ended");
        let (left, wakeups) = (texts(peer, "S").await, peer.wakeups().await);
        assert!(left.is_empty() || !wakeups.is_empty(), "round {round}: nobody will look for {left:?}");
        woken += wakeups.len();
        read.extend(left);
    }
    for run in peer.events("hints") {
        read.extend(
            run["hints"].as_array().unwrap().iter().map(|hint| hint["hint"].as_str().unwrap().to_owned()),
        );
    }
    read.sort_unstable();
    let mut sent: Vec<_> = (0..ROUNDS).map(|round| round.to_string()).collect();
    sent.sort_unstable();
    assert_eq!(read, sent, "each of them once");
    assert!(woken > 0 && woken < ROUNDS, "some came in time and some too late: {woken}");
    peer.is_unharmed().await;
}
