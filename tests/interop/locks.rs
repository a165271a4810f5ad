//! One lock, two languages.

use std::time::Duration;

use serde_json::json;
use tower_offload::bus::{LeaseOptions, LockExt, SharedBus};

use crate::both::Both;
use crate::peer::Peer;
use crate::until;

const LONG: Duration = Duration::from_secs(600);

/// All of them with one peer: starting it takes longer than all else.
#[tokio::test]
async fn each_side_respects_the_others_locks() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    tokio::join!(
        what_agentscope_holds_we_do_not_get(bus, peer),
        what_we_hold_agentscope_waits_for(bus, peer),
        a_lock_that_agentscope_has_lost_stays_ours(bus, peer),
        a_short_lease_is_renewed_on_both_sides(bus, peer),
    );
    peer.is_unharmed().await;
}

async fn what_agentscope_holds_we_do_not_get(bus: &SharedBus, peer: &Peer) {
    peer.call("lock", json!({"key": "A"})).await;
    assert!(bus.is_locked("A").await.unwrap());
    assert!(!bus.try_acquire("A", "ours", LONG).await.unwrap());
    assert!(!bus.renew("A", "ours", Duration::from_secs(1)).await.unwrap());
    assert!(!bus.release("A", "ours").await.unwrap());
    let ttl = peer.redis(&["TTL", "A"]).await.as_i64().unwrap();
    assert!(ttl > 60, "still AgentScope's own: {ttl}");

    let waiting = bus.lock("A", LeaseOptions::new());
    let releasing = peer.call("unlock", json!({"key": "A"}));
    let (lease, _) = tokio::join!(waiting, releasing);
    assert_eq!(peer.bus("try_lock", json!(["A"])).await, false);
    assert!(lease.unwrap().release().await.unwrap());
    assert_eq!(peer.bus("is_locked", json!(["A"])).await, false);
}

async fn what_we_hold_agentscope_waits_for(bus: &SharedBus, peer: &Peer) {
    assert!(bus.try_acquire("B", "ours", LONG).await.unwrap());
    assert_eq!(peer.bus("is_locked", json!(["B"])).await, true);
    assert_eq!(peer.bus("try_lock", json!(["B"])).await, false);
    let ttl = peer.redis(&["PTTL", "B"]).await.as_i64().unwrap();
    assert!((1..=600_000).contains(&ttl), "{ttl}");

    let waiting = peer.call("lock", json!({"key": "B"}));
    let releasing = async {
        assert!(bus.renew("B", "ours", 2 * LONG).await.unwrap());
        assert!(bus.release("B", "ours").await.unwrap());
    };
    tokio::join!(waiting, releasing);
    assert!(!bus.try_acquire("B", "ours", LONG).await.unwrap());
    peer.call("unlock", json!({"key": "B"})).await;
    assert!(bus.try_acquire("B", "ours", LONG).await.unwrap());
}

/// Its token is compared before it deletes.
async fn a_lock_that_agentscope_has_lost_stays_ours(bus: &SharedBus, peer: &Peer) {
    peer.call("lock", json!({"key": "C"})).await;
    peer.redis(&["DEL", "C"]).await;
    assert!(bus.try_acquire("C", "ours", LONG).await.unwrap());
    peer.call("unlock", json!({"key": "C"})).await;
    assert!(bus.renew("C", "ours", LONG).await.unwrap());
}

async fn a_short_lease_is_renewed_on_both_sides(bus: &SharedBus, peer: &Peer) {
    peer.call("lock", json!({"key": "theirs", "ttl_secs": 6})).await;
    let ours = bus.lock("ours", LeaseOptions::new().ttl(Duration::from_secs(5))).await.unwrap();
    let start = tokio::time::Instant::now();
    until(async || {
        assert!(!bus.try_acquire("theirs", "t", LONG).await.unwrap());
        assert_eq!(peer.bus("try_lock", json!(["ours"])).await, false);
        (start.elapsed() > Duration::from_secs(11)).then_some(())
    })
    .await;
    assert!(!ours.is_lost());
    drop(ours);
    until(async || (peer.bus("is_locked", json!(["ours"])).await == false).then_some(())).await;
}
