//! What only a delivery on Redis has to mind: the lock of the inbox, and others who write.

use std::time::Duration;

use futures_util::FutureExt;
use tower_offload::RedisBus;
use tower_offload::bus::{Lock, MessageBus, PubSub, Queue, keys};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, bus, delivery, payload, said, soon, until};

#[tokio::test]
async fn a_delivery_waits_for_the_lock_and_changes_nothing_until_then() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let lock = keys::inbox_lock("S");
    let () = plain.run(&["SET", &lock, "theirs", "NX", "EX", "600"]).await;

    let result = delivery("S", "k", "{}");
    let delivered = tokio::spawn({
        let (bus, result) = (bus.clone(), result.clone());
        async move { bus.deliver(&result).await.unwrap() }
    });
    let before = bus.stats().round_trips;
    until("it has tried again", async || bus.stats().round_trips >= before + 4).await;
    assert!(!delivered.is_finished());
    assert_eq!(plain.keys().await, [&*lock]);
    assert_eq!(plain.run::<String>(&["GET", &lock]).await, "theirs");
    assert!(signals.recv().now_or_never().is_none());

    // Others are not held up.
    assert!(bus.deliver(&delivery("other", "k", "{}")).await.unwrap());
    assert_eq!(payload(&mut signals).await, "{}");

    let () = plain.run(&["DEL", &lock]).await;
    assert!(soon(delivered).await.unwrap());
    assert_eq!(payload(&mut signals).await, "{}");
    assert_eq!(plain.entries("agentscope:inbox:S").await.len(), 1);
}

#[tokio::test]
async fn an_inbox_that_no_client_reads_is_bounded_and_expires() {
    let server = RedisServer::start();
    let bus = RedisBus::builder(server.url()).max_queue_entries(10).inbox_ttl(Duration::from_secs(3600));
    let (bus, mut plain) = (bus.build().unwrap(), Plain::new(&server).await);
    for number in 0..1_000 {
        bus.deliver(&delivery("S", &number.to_string(), "{}")).await.unwrap();
    }
    let mut kept = 0;
    for key in ["agentscope:inbox:S", keys::WAKEUPS] {
        let entries: u64 = plain.run(&["XLEN", key]).await;
        // The server drops whole nodes of a hundred entries.
        assert!((10..=210).contains(&entries), "{entries} entries in {key}");
        kept += entries;
    }
    assert_eq!(bus.stats().dropped_entries, 2_000 - kept);
    assert_eq!(bus.health().dropped, 2_000 - kept);
    // The newest is there, and the inbox goes if no other delivery comes.
    let entries = plain.entries("agentscope:inbox:S").await;
    assert!(!entries.is_empty());
    let left: i64 = plain.run(&["PTTL", "agentscope:inbox:S"]).await;
    assert!((1..=3_600_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn a_server_without_memory_is_in_the_health_of_the_bus() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    assert!(bus.deliver(&delivery("S", "before", "{}")).await.unwrap());
    let () = plain.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    bus.deliver(&delivery("S", "full", "{}")).await.unwrap_err();
    bus.push("q", "{}", None).await.unwrap_err();
    let health = bus.health();
    assert!(health.connected);
    assert_eq!((health.refused, bus.stats().refused_writes), (2, 2));
    let () = plain.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    bus.deliver(&delivery("S", "full", "{}")).await.unwrap();
    assert_eq!(plain.entries("agentscope:inbox:S").await.len(), 2);
}

#[tokio::test]
async fn a_lock_that_nobody_gives_back_ends_by_itself() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let () = plain.run(&["SET", &keys::inbox_lock("S"), "theirs", "NX", "PX", "300"]).await;
    assert!(soon(bus.deliver(&delivery("S", "k", "{}"))).await.unwrap());
    assert_eq!(plain.run::<usize>(&["EXISTS", &keys::inbox_lock("S")]).await, 0);
}

#[tokio::test]
async fn a_consumer_that_is_about_to_end_misses_nothing() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let (lock, consumer) = (keys::inbox_lock("S"), keys::inbox_consumer("S"));
    for round in 0..20 {
        let () = plain.run(&["HSET", &consumer, "running", "1"]).await;
        let () = plain.run(&["SET", &lock, "theirs", "NX", "EX", "600"]).await;
        // It has looked: nothing is there. Now a result comes.
        assert_eq!(plain.run::<usize>(&["XLEN", "agentscope:inbox:S"]).await, 0);
        let delivered = tokio::spawn({
            let (bus, result) = (bus.clone(), delivery("S", &round.to_string(), "{}"));
            async move { bus.deliver(&result).await.unwrap() }
        });
        let before = bus.stats().round_trips;
        until("it has tried", async || bus.stats().round_trips > before).await;
        let () = plain.run(&["HDEL", &consumer, "running"]).await;
        let () = plain.run(&["DEL", &lock]).await;
        assert!(soon(delivered).await.unwrap(), "the session sleeps now, and must be woken");
        let () = plain.run(&["DEL", "agentscope:inbox:S", "agentscope:wakeups"]).await;
    }
}

#[tokio::test]
async fn a_delivery_that_waits_can_be_dropped() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let lock = keys::inbox_lock("S");
    let () = plain.run(&["SET", &lock, "theirs", "NX", "EX", "600"]).await;
    let result = delivery("S", "k", "{}");
    assert!(tokio::time::timeout(Duration::from_millis(100), bus.deliver(&result)).await.is_err());
    // Answers come in order: whatever was under way then is over now.
    assert!(bus.is_locked(&lock).await.unwrap());
    let () = plain.run(&["DEL", &lock]).await;
    assert!(bus.deliver(&delivery("S", "k", "{}")).await.unwrap(), "it had not been delivered");
}

#[tokio::test]
async fn a_session_named_like_a_lock_holds_nobody_up() {
    let server = RedisServer::start();
    let bus = bus(&server);
    assert!(bus.deliver(&delivery("lock:x", "k", "{}")).await.unwrap());
    assert!(soon(bus.deliver(&delivery("x", "k", "{}"))).await.unwrap());
}

#[tokio::test]
async fn sessions_and_keys_with_colons_are_not_confused() {
    let server = RedisServer::start();
    let bus = bus(&server);
    for (session, key) in [("a", "b:c"), ("a:b", "c"), ("a", "b%3Ac"), ("a:b:c", ""), ("", "a:b:c")] {
        assert!(bus.deliver(&delivery(session, key, "{}")).await.unwrap(), "{session} {key}");
        assert!(!bus.deliver(&delivery(session, key, "{}")).await.unwrap());
    }
}

#[tokio::test]
async fn a_delivery_that_fails_leaves_nothing_behind() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let (inbox, consumer) = (keys::inbox("S"), keys::inbox_consumer("S"));
    for key in [keys::WAKEUPS, &inbox, &consumer] {
        let () = plain.run(&["SET", key, "not a stream"]).await;
        let error = bus.deliver(&delivery("S", "k", "{}")).await.unwrap_err();
        assert!(said(&error).contains("WRONGTYPE"), "{}", said(&error));
        assert_eq!(plain.keys().await, [key]);
        let () = plain.run(&["DEL", key]).await;
    }
    assert!(bus.deliver(&delivery("S", "k", "{}")).await.unwrap());
    bus.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();
    assert_eq!(payload(&mut signals).await, "{}");
    assert_eq!(payload(&mut signals).await, "the end");
}
