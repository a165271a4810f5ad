//! Those who run sessions: wakeups and inboxes.

use std::sync::Arc;
use std::time::Duration;

use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{Closing, Inbox, MessageBus, Queue, Registry, SharedBus, Wakeups, keys};
use tower_offload::{TaskMeta, bus::Delivery};

use crate::world::{ALL, Outage, PATIENCE, World, in_each, until};

fn delivery(key: &str, session: &str) -> Delivery {
    let meta = TaskMeta::new("alice", "work").with_session(session).with_agent("agent");
    Delivery::new(key, &meta, format!(r#"{{"type": "hint", "hint": "{key}"}}"#))
}

async fn next(wakeups: &mut Wakeups) -> Wakeup {
    tokio::time::timeout(PATIENCE, wakeups.recv()).await.expect("a wakeup comes").expect("the runtime lives")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wakeups_come_again() {
    in_each(&ALL, async |outage| {
        let mut world = World::new(outage).await;
        let bus: SharedBus = Arc::new(world.one.bus.clone());
        // The queue is not looked at without a signal while the test waits.
        let mut wakeups = Wakeups::builder(bus).poll_every(PATIENCE * 10).start();
        world.other.bus.deliver(&delivery("before", "s1")).await.unwrap();
        assert_eq!(next(&mut wakeups).await.session_id, "s1");

        world.begin();
        // Somebody asks while it is away.
        assert!(tokio::time::timeout(Duration::from_secs(2), wakeups.recv()).await.is_err());
        world.end();
        until("it is back", async || world.other.bus.deliver(&delivery("after", "s2")).await.is_ok()).await;
        assert_eq!(next(&mut wakeups).await.session_id, "s2");
        until("it listens", async || world.listeners(keys::WAKEUP_SIGNAL) == 1).await;
        // By signal again: the queue was looked into and found empty.
        assert!(tokio::time::timeout(Duration::from_secs(1), wakeups.recv()).await.is_err());
        world.other.bus.deliver(&delivery("later", "s3")).await.unwrap();
        assert_eq!(next(&mut wakeups).await.session_id, "s3");
        wakeups.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_is_read_on() {
    in_each(&ALL, async |outage| {
        let mut world = World::new(outage).await;
        let bus: SharedBus = Arc::new(world.one.bus.clone());
        let inbox = Inbox::open(bus, &Wakeup::wake("alice", "s1", "agent")).await.unwrap();
        world.begin();
        inbox.drain(10).await.unwrap_err();
        world.end();
        until("it is back", async || inbox.drain(10).await.is_ok()).await;
        let mut woke = false;
        until("somebody can deliver", async || {
            let delivered = world.other.bus.deliver(&delivery("after", "s1")).await;
            woke |= delivered.as_ref().is_ok_and(|woke| *woke);
            delivered.is_ok()
        })
        .await;
        // A server that has lost the flag wakes once too often, and nothing is stranded.
        assert_eq!(woke, !has_flag(&world).await);
        let Closing::Waiting(inbox) = inbox.close().await.unwrap() else { panic!("something waits") };
        assert_eq!(inbox.drain(10).await.unwrap().len(), 1);
        assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
        assert!(!has_flag(&world).await);
    })
    .await;
}

/// A run that ends while the server is away: what is left wakes somebody when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_is_dropped_meanwhile_wakes() {
    in_each(&[Outage::Stopped, Outage::Cut, Outage::Stalled], async |outage| {
        let mut world = World::new(outage).await;
        let bus: SharedBus = Arc::new(world.one.bus.clone());
        let inbox = Inbox::open(bus, &Wakeup::wake("alice", "s1", "agent")).await.unwrap();
        assert!(!world.other.bus.deliver(&delivery("left", "s1")).await.unwrap());
        world.begin();
        drop(inbox);
        tokio::time::timeout(Duration::from_secs(1), world.one.bus.len("q")).await.ok();
        world.end();
        until("it wakes", async || world.other.bus.len(keys::WAKEUPS).await.is_ok_and(|len| len == 1)).await;
        until("it is closed", async || !has_flag(&world).await).await;
        assert_eq!(world.other.delivered().await.0.len(), 1);
    })
    .await;
}

async fn has_flag(world: &World) -> bool {
    world.other.bus.contains(&keys::inbox_consumer("s1"), keys::CONSUMER_RUNNING).await.unwrap()
}
