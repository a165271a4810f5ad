//! The modes of the bus, written by one side and read by the other.

use std::time::Duration;

use serde_json::{Value, json};
use tower_offload::bus::{EntryId, SharedBus, SubscriptionEvent};

use crate::both::Both;
use crate::peer::Peer;

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

fn entry_id(text: &Value) -> EntryId {
    let (millis, sequence) = text.as_str().unwrap().split_once('-').unwrap();
    EntryId { millis: millis.parse().unwrap(), sequence: sequence.parse().unwrap() }
}

/// All of them with one peer: starting it takes longer than all else.
#[tokio::test]
async fn each_mode() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    queues(bus, peer).await;
    a_queue_that_both_drain(bus, peer).await;
    a_queue_with_strange_entries(bus, peer).await;
    logs(bus, peer).await;
    registries(bus, peer).await;
    channels(bus, peer).await;
    peer.is_unharmed().await;
}

async fn queues(bus: &SharedBus, peer: &Peer) {
    let payload = json!({"text": "ü \u{0} \u{2028} 🦀", "n": [1, 2.5, null]});
    let theirs = peer.bus("queue_push", json!(["Q", payload])).await;
    let ours = bus.push("Q", &payload.to_string(), MINUTE).await.unwrap();
    assert!(ours > entry_id(&theirs));
    assert_eq!(bus.len("Q").await.unwrap(), 2);
    let ttl = peer.redis(&["TTL", "Q"]).await.as_i64().unwrap();
    assert!((1..=60).contains(&ttl), "{ttl}");
    let [first] = bus.drain("Q", 1).await.unwrap().try_into().unwrap();
    assert_eq!(
        (first.id, serde_json::from_str::<Value>(&first.payload).unwrap()),
        (entry_id(&theirs), payload.clone())
    );
    assert_eq!(peer.bus("queue_drain", json!(["Q"])).await, json!([[ours.to_string(), payload]]));
    assert_eq!(bus.drain("Q", 100).await.unwrap(), []);
    bus.push("Q", "{}", None).await.unwrap();
    peer.bus("queue_delete", json!(["Q"])).await;
    assert_eq!(bus.len("Q").await.unwrap(), 0);
}

/// No entry goes to two, or to nobody.
async fn a_queue_that_both_drain(bus: &SharedBus, peer: &Peer) {
    let mut expected: Vec<u64> = (0..400).collect();
    for n in &expected {
        bus.push("Q", &json!({ "n": n }).to_string(), None).await.unwrap();
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let we = async {
        loop {
            let entries = bus.drain("Q", 7).await.unwrap();
            if entries.is_empty() {
                break;
            }
            ours.extend(entries.iter().map(|entry| serde_json::from_str::<Value>(&entry.payload).unwrap()));
        }
    };
    let they = async {
        loop {
            let entries = peer.bus("queue_drain", json!(["Q", 7])).await;
            let entries = entries.as_array().unwrap();
            if entries.is_empty() {
                break;
            }
            theirs.extend(entries.iter().map(|entry| entry[1].clone()));
        }
    };
    tokio::join!(we, they);
    let mut all: Vec<u64> = ours.iter().chain(&theirs).map(|entry| entry["n"].as_u64().unwrap()).collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// What nobody should have written costs nobody what lies beside it.
async fn a_queue_with_strange_entries(bus: &SharedBus, peer: &Peer) {
    bus.push("Q", "{\"n\": 1}", None).await.unwrap();
    peer.redis(&["XADD", "Q", "*", "other", "field"]).await;
    peer.redis(&["XADD", "Q", "*", "other", "field", "payload", "{\"n\": 2}"]).await;
    peer.call("redis", json!({"args": ["XADD", "Q", "*", "payload", {"hex": "ff00"}]})).await;
    bus.push("Q", "{\"n\": 3}", None).await.unwrap();
    let payloads: Vec<_> =
        bus.drain("Q", 100).await.unwrap().into_iter().map(|entry| entry.payload).collect();
    for n in 1..=3 {
        assert!(payloads.contains(&format!("{{\"n\": {n}}}")), "{payloads:?}");
    }
    assert_eq!(bus.len("Q").await.unwrap(), 0);
}

async fn logs(bus: &SharedBus, peer: &Peer) {
    let one = bus.append("L", "{\"n\": 1}", MINUTE, Some(1000)).await.unwrap();
    let two = peer.bus("log_append", json!(["L", {"n": 2}])).await;
    let three = bus.append("L", "{\"n\": 3}", None, None).await.unwrap();
    let all = peer.bus("log_read", json!(["L"])).await;
    let expected = json!([[one.to_string(), {"n": 1}], [two, {"n": 2}], [three.to_string(), {"n": 3}]]);
    assert_eq!(all, expected);
    let since = peer.bus("log_read", json!(["L", one.to_string(), 1])).await;
    assert_eq!(since, json!([[two, {"n": 2}]]));
    let ids = async |after| -> Vec<_> {
        bus.read("L", after, 100).await.unwrap().into_iter().map(|entry| entry.id).collect()
    };
    assert_eq!(ids(None).await, [one, entry_id(&two), three]);
    assert_eq!(ids(Some(entry_id(&two))).await, [three]);
    bus.trim("L", Some(three)).await.unwrap();
    assert!(
        peer.bus("log_read", json!(["L"]))
            .await
            .as_array()
            .unwrap()
            .contains(&json!([three.to_string(), {"n": 3}]))
    );
    peer.bus("log_trim", json!(["L"])).await;
    assert_eq!(ids(None).await, []);
}

async fn registries(bus: &SharedBus, peer: &Peer) {
    bus.set("R", "a", "ü\u{0}", MINUTE).await.unwrap();
    peer.bus("registry_set", json!(["R", "b", ""])).await;
    assert_eq!(peer.bus("registry_getall", json!(["R"])).await, json!({"a": "ü\u{0}", "b": ""}));
    assert_eq!(bus.get("R", "b").await.unwrap().as_deref(), Some(""));
    let ttl = peer.redis(&["TTL", "R"]).await.as_i64().unwrap();
    assert!((1..=60).contains(&ttl), "{ttl}");
    let mut all = bus.get_all("R").await.unwrap();
    all.sort_unstable();
    assert_eq!(all, [("a".into(), "ü\u{0}".into()), ("b".into(), String::new())]);
    let if_equal =
        json!({"op": "registry_set_if", "args": ["R", "a", "2"], "options": {"expected": "ü\u{0}"}});
    assert_eq!(peer.call("bus", if_equal.clone()).await, true);
    assert_eq!(peer.call("bus", if_equal).await, false);
    assert!(bus.set_if("R", "a", "3", "2", None).await.unwrap());
    assert_eq!(peer.bus("registry_pop", json!(["R", "a"])).await, "3");
    assert_eq!(bus.take("R", "a").await.unwrap(), None);
    assert_eq!(bus.take("R", "b").await.unwrap().as_deref(), Some(""));
    assert_eq!(peer.bus("registry_exists", json!(["R", "b"])).await, false);
    bus.set("R", "c", "1", None).await.unwrap();
    peer.bus("registry_drop", json!(["R"])).await;
    assert!(!bus.contains("R", "c").await.unwrap());
}

async fn channels(bus: &SharedBus, peer: &Peer) {
    let mut subscription = bus.subscribe(&["C", "D"]).await.unwrap();
    let message = json!({"text": "ü \u{0} 🦀", "n": 1});
    peer.bus("publish", json!(["D", message])).await;
    let Some(SubscriptionEvent::Message(told)) = subscription.recv().await else { panic!("a message") };
    assert_eq!(
        (&*told.channel, serde_json::from_str::<Value>(&told.payload).unwrap()),
        ("D", message.clone())
    );
    peer.call("listen", json!({"channel": "C"})).await;
    bus.publish("C", &message.to_string()).await.unwrap();
    assert_eq!(peer.event("published", |_| true).await["payload"], message);
    peer.is_unharmed().await;
}
