//! One lock, two languages.

use std::time::Duration;

use serde_json::json;
use tower_offload::bus::{LeaseOptions, LockExt};

use crate::both::Both;
use crate::until;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_agentscope_holds_we_do_not_get() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    peer.call("lock", json!({"key": "L"})).await;
    assert!(bus.is_locked("L").await.unwrap());
    assert!(!bus.try_acquire("L", "ours", LONG).await.unwrap());
    assert!(!bus.renew("L", "ours", Duration::from_secs(1)).await.unwrap());
    assert!(!bus.release("L", "ours").await.unwrap());
    let ttl = peer.redis(&["TTL", "L"]).await.as_i64().unwrap();
    assert!(ttl > 590, "still AgentScope's own: {ttl}");

    let waiting = bus.lock("L", LeaseOptions::new());
    let releasing = peer.call("unlock", json!({"key": "L"}));
    let (lease, _) = tokio::join!(waiting, releasing);
    assert_eq!(peer.bus("try_lock", json!(["L"])).await, false);
    assert!(lease.unwrap().release().await.unwrap());
    assert_eq!(peer.bus("is_locked", json!(["L"])).await, false);
}

#[tokio::test]
async fn what_we_hold_agentscope_waits_for() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    assert!(bus.try_acquire("L", "ours", LONG).await.unwrap());
    assert_eq!(peer.bus("is_locked", json!(["L"])).await, true);
    assert_eq!(peer.bus("try_lock", json!(["L"])).await, false);
    let ttl = peer.redis(&["PTTL", "L"]).await.as_i64().unwrap();
    assert!((50_000..=60_000).contains(&ttl), "{ttl}");

    let waiting = peer.call("lock", json!({"key": "L"}));
    let releasing = async {
        assert!(bus.renew("L", "ours", 2 * LONG).await.unwrap());
        assert!(bus.release("L", "ours").await.unwrap());
    };
    tokio::join!(waiting, releasing);
    assert!(!bus.try_acquire("L", "ours", LONG).await.unwrap());
    peer.call("unlock", json!({"key": "L"})).await;
    assert!(bus.try_acquire("L", "ours", LONG).await.unwrap());
}

/// Its token is compared before it deletes.
#[tokio::test]
async fn a_lock_that_agentscope_has_lost_stays_ours() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    peer.call("lock", json!({"key": "L"})).await;
    peer.redis(&["DEL", "L"]).await;
    assert!(bus.try_acquire("L", "ours", LONG).await.unwrap());
    peer.call("unlock", json!({"key": "L"})).await;
    assert!(bus.renew("L", "ours", LONG).await.unwrap());
}

#[tokio::test]
async fn a_short_lease_is_renewed_on_both_sides() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    peer.call("lock", json!({"key": "theirs", "ttl_secs": 2})).await;
    let ours = bus.lock("ours", LeaseOptions::new().ttl(Duration::from_secs(1))).await.unwrap();
    let start = tokio::time::Instant::now();
    until(async || {
        assert!(!bus.try_acquire("theirs", "t", LONG).await.unwrap());
        assert_eq!(peer.bus("try_lock", json!(["ours"])).await, false);
        (start.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    assert!(!ours.is_lost());
    drop(ours);
    until(async || (peer.bus("is_locked", json!(["ours"])).await == false).then_some(())).await;
}
