//! Subscriptions, when the server or the way to it does not do what it should.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tower_offload::RedisBus;
use tower_offload::bus::{PubSub, Subscription, SubscriptionEvent};
use uuid::Uuid;

use crate::proxy::{Proxy, Way};
use crate::redis_server::RedisServer;
use crate::tools::{
    PATIENCE, Plain, bus, event, impatient, is_live_again, message, payload, said, soon, until,
};

#[tokio::test]
async fn subscribe_waits_for_the_acknowledgement() {
    let server = RedisServer::start();
    let (mut plain, proxy) = (Plain::new(&server).await, Proxy::to(server.port()).await);
    let bus = RedisBus::builder(proxy.url()).build().unwrap();
    let _first = bus.subscribe(&["first"]).await.unwrap();
    proxy.set(Way::Delay(Duration::from_millis(300)));
    // A new channel, one that is subscribed already, and both.
    for channels in [&["new"][..], &["first"], &["first", "newer"]] {
        let mut subscription = bus.subscribe(channels).await.unwrap();
        let channel = channels.last().unwrap();
        let hears: usize = plain.run(&["PUBLISH", channel, "1"]).await;
        assert_eq!(hears, 1);
        assert_eq!(payload(&mut subscription).await, "1");
    }
}

#[tokio::test]
async fn all_subscriptions_share_one_connection_and_each_channel() {
    let server = RedisServer::start();
    let (bus, mut plain) = (impatient(server.url()), Plain::new(&server).await);
    assert_eq!(plain.pubsub_connections().await, 0);
    let mut first = bus.subscribe(&["a", "b"]).await.unwrap();
    let second = bus.clone().subscribe(&["b", "c"]).await.unwrap();
    let third = bus.subscribe(&["b"]).await.unwrap();
    assert_eq!((plain.pubsub_connections().await, bus.stats().subscriptions), (1, 3));
    for (channel, listeners) in [("a", 1), ("b", 1), ("c", 1), ("d", 0)] {
        assert_eq!(plain.listeners(channel).await, listeners, "{channel}");
    }

    drop(second);
    until("c is unsubscribed", async || plain.listeners("c").await == 0).await;
    drop(third);
    until("one is left", async || bus.stats().subscriptions == 1).await;
    bus.publish("b", "1").await.unwrap();
    assert_eq!(payload(&mut first).await, "1");
    assert_eq!((plain.listeners("a").await, plain.listeners("b").await), (1, 1));

    drop(first);
    until("both are unsubscribed", async || plain.listeners("a").await + plain.listeners("b").await == 0)
        .await;
    until("their connection is closed", async || plain.connections().await == 2).await;

    let mut again = bus.subscribe(&["a"]).await.unwrap();
    bus.publish("a", "2").await.unwrap();
    assert_eq!(payload(&mut again).await, "2");
    assert_eq!((bus.stats().subscriptions, bus.stats().resubscriptions), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribing_and_unsubscribing_at_once_loses_nothing() {
    let server = RedisServer::start();
    let bus = bus(&server);
    let tasks = (0..8).map(|task| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for round in 0..60 {
                let channels = ["a", "b", "c"];
                let channels = [channels[(task + round) % 3], channels[round % 3]];
                if round % 7 == 0 {
                    let _ = bus.subscribe(&channels).now_or_never();
                }
                let mut subscription = bus.subscribe(&channels).await.unwrap();
                let text = Uuid::new_v4().to_string();
                bus.publish(channels[0], &text).await.unwrap();
                while payload(&mut subscription).await != text {}
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let mut plain = Plain::new(&server).await;
    until("nobody listens", async || {
        plain.listeners("a").await + plain.listeners("b").await + plain.listeners("c").await == 0
    })
    .await;
    assert_eq!(bus.stats().subscriptions, 0);
}

#[tokio::test]
async fn a_subscribe_that_is_dropped_leaves_nothing() {
    let server = RedisServer::start();
    let (mut plain, proxy) = (Plain::new(&server).await, Proxy::to(server.port()).await);
    proxy.set(Way::Delay(Duration::from_millis(30)));
    let bus = RedisBus::builder(proxy.url()).response_timeout(PATIENCE).build().unwrap();
    for wait in [0, 20, 40, 60, 80, 100] {
        let wait = Duration::from_millis(wait);
        let _ = tokio::time::timeout(wait, bus.subscribe(&["a", "b"])).await;
    }
    until("it is forgotten", async || bus.stats().subscriptions == 0).await;
    until("nobody listens", async || plain.listeners("a").await + plain.listeners("b").await == 0).await;
    let mut subscription = bus.subscribe(&["a"]).await.unwrap();
    bus.publish("a", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_burst_is_not_lost_below_the_capacity() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let burst = "for i = 1, ARGV[1] do redis.call('PUBLISH', 'c', i) end";
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    let () = plain.run(&["EVAL", burst, "0", "1024"]).await;
    let mut other = bus.subscribe(&["other"]).await.unwrap();
    bus.publish("other", "the burst is there").await.unwrap();
    message(&mut other).await;
    for number in 1..=1024 {
        assert_eq!(payload(&mut subscription).await, number.to_string());
    }
    assert_eq!(bus.stats().lagged_messages, 0);

    let () = plain.run(&["EVAL", burst, "0", "2000"]).await;
    until("the rest is lost", async || bus.stats().lagged_messages == 2000 - 1024).await;
    let lagged = event(&mut subscription).await;
    assert!(matches!(lagged, SubscriptionEvent::Lagged(976)), "{lagged:?}");
    for number in 1..=1024 {
        assert_eq!(payload(&mut subscription).await, number.to_string());
    }
    bus.publish("c", "on").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "on");
}

/// Waits until what is published is heard, and nothing else is.
async fn hears(bus: &RedisBus, subscription: &mut Subscription, channel: &str) {
    let text = Uuid::new_v4().to_string();
    bus.publish(channel, &text).await.unwrap();
    let heard = message(subscription).await;
    assert_eq!((&*heard.channel, &*heard.payload), (channel, &*text));
}

#[tokio::test]
async fn a_connection_that_was_killed_is_made_again() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut one = bus.subscribe(&["a", "b"]).await.unwrap();
    let mut other = bus.subscribe(&["b"]).await.unwrap();
    for round in 1..4 {
        let killed: usize = plain.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(killed, 1);
        is_live_again(&mut one).await;
        is_live_again(&mut other).await;
        hears(&bus, &mut one, "a").await;
        hears(&bus, &mut one, "b").await;
        payload(&mut other).await;
        assert_eq!((plain.pubsub_connections().await, bus.stats().resubscriptions), (1, round));
    }
    assert_eq!(bus.stats().connections, 1, "that of the commands is another one");
}

#[tokio::test]
async fn subscriptions_live_on_while_the_server_is_away() {
    let mut server = RedisServer::start();
    let bus = impatient(server.url());
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    server.kill();
    for _ in 0..3 {
        let error = soon(bus.subscribe(&["other"])).await.unwrap_err();
        assert!(said(&error).contains(&server.port().to_string()), "{}", said(&error));
    }
    assert!(subscription.recv().now_or_never().is_none(), "it waits");
    assert_eq!(bus.stats().subscriptions, 1);

    server.restart();
    is_live_again(&mut subscription).await;
    until("commands work too", async || bus.publish("nobody", "").await.is_ok()).await;
    hears(&bus, &mut subscription, "c").await;
    let mut other = bus.subscribe(&["other"]).await.unwrap();
    hears(&bus, &mut other, "other").await;
}

#[tokio::test]
async fn a_subscription_between_two_attempts_does_not_wait_for_the_next() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let bus = RedisBus::builder(proxy.url()).build().unwrap();
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    proxy.set(Way::Cut);
    // From the fifth attempt to connect on, each pause is 0.8 s or longer.
    until("pauses are long", async || proxy.accepted() >= 6).await;
    let attempts = proxy.accepted();
    for _ in 0..50 {
        soon(bus.subscribe(&["other"])).await.unwrap_err();
    }
    assert!(proxy.accepted() - attempts < 50, "each call has waited for an attempt");
    proxy.set(Way::Pass);
    is_live_again(&mut subscription).await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_made_again() {
    let server = RedisServer::start();
    let (proxy, direct) = (Proxy::to(server.port()).await, bus(&server));
    let bus = impatient(proxy.url());
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    // Quiet is not silent: the server answers when it is asked.
    until("it was asked often", async || proxy.passed() > 20).await;
    assert!(subscription.recv().now_or_never().is_none());
    assert_eq!(proxy.accepted(), 1);

    proxy.set(Way::Stall);
    direct.publish("c", "lost").await.unwrap();
    until("it is swallowed", async || proxy.swallowed() > 0).await;
    proxy.set(Way::Pass);
    is_live_again(&mut subscription).await;
    hears(&direct, &mut subscription, "c").await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_subscribed_to_again() {
    let server = RedisServer::start();
    let bus = impatient(server.url());
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    server.pause();
    let error = soon(bus.subscribe(&["other"])).await.unwrap_err();
    assert!(said(&error).contains("no answer"), "{}", said(&error));
    soon(bus.subscribe(&["other"])).await.unwrap_err();
    server.resume();
    is_live_again(&mut subscription).await;
    until("commands work too", async || bus.publish("nobody", "").await.is_ok()).await;
    hears(&bus, &mut subscription, "c").await;
}

#[tokio::test]
async fn subscribing_has_an_end_when_nobody_answers() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let bus = impatient(proxy.url());
    for way in [Way::Stall, Way::Cut] {
        proxy.set(way);
        soon(bus.subscribe(&["c"])).await.unwrap_err();
        assert_eq!(bus.stats().subscriptions, 0);
    }
    proxy.set(Way::Pass);
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    until("commands work too", async || bus.publish("nobody", "").await.is_ok()).await;
    hears(&bus, &mut subscription, "c").await;
}

#[tokio::test]
async fn a_channel_that_is_forbidden_is_refused_and_the_others_stay() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let user = ["ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "resetchannels", "&a", "&b"];
    let () = plain.run(&user).await;
    let bus = RedisBus::builder(format!("redis://u:p@127.0.0.1:{}", server.port())).build().unwrap();
    let mut a = bus.subscribe(&["a"]).await.unwrap();
    let error = bus.subscribe(&["a", "c"]).await.unwrap_err();
    assert!(said(&error).contains("NoPerm"), "{}", said(&error));
    let mut b = bus.subscribe(&["b"]).await.unwrap();
    hears(&bus, &mut a, "a").await;
    hears(&bus, &mut b, "b").await;
    assert_eq!((bus.stats().subscriptions, bus.stats().resubscriptions), (2, 0));

    // One that is forbidden later ends when it would have to be subscribed again. The server kills the connection.
    let () = plain.run(&["ACL", "SETUSER", "u", "resetchannels", "&a"]).await;
    is_live_again(&mut a).await;
    assert!(matches!(event(&mut b).await, SubscriptionEvent::Error(_)));
    assert!(soon(b.recv()).await.is_none());
    hears(&bus, &mut a, "a").await;
}

#[tokio::test]
async fn subscriptions_end_with_the_bus() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let first = bus(&server);
    let clone = first.clone();
    let mut subscription = first.subscribe(&["c"]).await.unwrap();
    drop(first);
    hears(&clone, &mut subscription, "c").await;
    drop(clone);
    assert!(soon(subscription.recv()).await.is_none());
    until("all its connections are closed", async || plain.connections().await == 1).await;
}

#[tokio::test]
async fn subscriptions_end_with_the_bus_also_while_the_server_is_away() {
    let mut server = RedisServer::start();
    let bus = impatient(server.url());
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    server.kill();
    soon(bus.subscribe(&["other"])).await.unwrap_err();
    drop(bus);
    assert!(soon(subscription.recv()).await.is_none());
}
