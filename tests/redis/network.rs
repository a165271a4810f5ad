//! Commands, when the server or the way to it does not do what it should.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tower_offload::RedisBus;
use tower_offload::bus::{Lock, MessageBus, Queue, Registry};

use crate::proxy::{Proxy, Way};
use crate::redis_server::RedisServer;
use crate::tools::{PATIENCE, Plain, SHORT, bus, delivery, impatient, said, soon, until};

#[tokio::test]
async fn fifty_calls_share_one_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Way::Delay(Duration::from_millis(50)));
    let bus = RedisBus::builder(proxy.url()).build().unwrap();
    for answer in join_all((0..50).map(|_| bus.get("ns", "f"))).await {
        assert_eq!(answer.unwrap(), None);
    }
    assert_eq!((proxy.accepted(), bus.stats().connections, bus.stats().round_trips), (1, 1, 50));
}

#[tokio::test]
async fn an_attempt_to_connect_outlives_the_call_that_needed_it() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Way::Delay(Duration::from_millis(50)));
    let bus = RedisBus::builder(proxy.url()).build().unwrap();
    assert!(bus.get("ns", "f").now_or_never().is_none());
    until("it is connected", async || bus.stats().connected).await;
    assert_eq!(bus.get("ns", "f").await.unwrap(), None);
    assert_eq!((proxy.accepted(), bus.stats().connections), (1, 1));
}

#[tokio::test]
async fn attempts_that_fail_are_shared_and_followed_by_a_pause() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Way::Stall);
    let bus = impatient(proxy.url());
    let began = Instant::now();
    for answer in join_all((0..50).map(|_| bus.get("ns", "f"))).await {
        answer.unwrap_err();
    }
    assert!(began.elapsed() >= SHORT);
    assert_eq!(proxy.accepted(), 1);

    proxy.set(Way::Cut);
    let began = Instant::now();
    let mut calls = 0;
    while proxy.accepted() < 5 {
        soon(bus.get("ns", "f")).await.unwrap_err();
        calls += 1;
        tokio::task::yield_now().await;
    }
    // Half of 50, 100, 200 and 400 ms at least, the first of which began earlier.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert!(calls > 5, "most of them fail without an attempt");

    proxy.set(Way::Pass);
    until("it works", async || bus.get("ns", "f").await.is_ok()).await;
    assert_eq!(bus.stats().round_trips, 1);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let bus = impatient(proxy.url());
    bus.set("ns", "f", "v", None).await.unwrap();
    proxy.set(Way::Stall);
    let began = Instant::now();
    for answer in soon(join_all((0..20).map(|_| bus.get("ns", "f")))).await {
        let error = answer.unwrap_err();
        assert!(said(&error).contains(&format!("no answer within {SHORT:?}")), "{}", said(&error));
    }
    assert!(began.elapsed() >= SHORT);
    assert!(!bus.stats().connected);

    // The old connection stays mute, so that it must be another one.
    proxy.set(Way::Pass);
    until("it works", async || bus.get("ns", "f").await.is_ok()).await;
    let stats = bus.stats();
    assert_eq!((stats.connected, stats.connections, proxy.accepted()), (true, 2, 2));
    assert!(stats.last_gap.unwrap() >= SHORT, "counted from the first question, {:?}", stats.last_gap);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_also_when_nobody_waits_that_long() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let bus = impatient(proxy.url());
    bus.set("ns", "f", "v", None).await.unwrap();
    proxy.set(Way::Stall);
    assert!(bus.get("ns", "f").now_or_never().is_none());
    until("it is swallowed", async || proxy.swallowed() > 0).await;
    proxy.set(Way::Pass);
    until("it works", async || {
        let call = tokio::time::timeout(SHORT / 10, bus.get("ns", "f")).await;
        matches!(call, Ok(Ok(Some(_))))
    })
    .await;
    assert_eq!(bus.stats().connections, 2);
}

#[tokio::test]
async fn calls_that_are_dropped_do_no_harm() {
    let server = RedisServer::start();
    let bus = impatient(server.url());
    for _ in 0..3 {
        for _ in 0..200 {
            assert!(bus.push("q", "{}", None).now_or_never().is_none());
            let _ = tokio::time::timeout(Duration::from_micros(50), bus.drain("q", 3)).await;
        }
        bus.delete("q").await.unwrap();
        bus.push("q", "{}", None).await.unwrap();
    }
    assert_eq!(bus.stats().connections, 1);
    // The questions that were asked in their place were answered: nothing follows, however long it takes.
    let began = Instant::now();
    while began.elapsed() < SHORT * 2 {
        bus.len("q").await.unwrap();
    }
    assert_eq!((bus.stats().connections, bus.stats().connected), (1, true));
}

#[tokio::test]
async fn calls_under_way_fail_when_the_connection_is_cut() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let bus = RedisBus::builder(proxy.url()).response_timeout(PATIENCE * 10).build().unwrap();
    bus.get("ns", "f").await.unwrap();
    proxy.set(Way::Stall);
    let calls = tokio::spawn({
        let bus = bus.clone();
        async move { join_all((0..20).map(|_| bus.get("ns", "f"))).await }
    });
    until("they are under way", async || proxy.swallowed() > 0).await;
    proxy.set(Way::Cut);
    for answer in soon(calls).await.unwrap() {
        answer.unwrap_err();
    }
    assert!(!bus.stats().connected);
    proxy.set(Way::Pass);
    until("it works", async || bus.get("ns", "f").await.is_ok()).await;
}

#[tokio::test]
async fn a_connection_that_ends_while_nobody_uses_it_costs_no_call() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    for connections in 1..5 {
        bus.get("ns", "f").await.unwrap();
        assert_eq!(bus.stats().connections, connections);
        let () = plain.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        until("it is noticed", async || !bus.stats().connected).await;
    }
}

#[tokio::test]
async fn a_server_that_was_started_anew_is_used_again() {
    let mut server = RedisServer::persistent();
    let bus = bus(&server);
    for round in 0..3 {
        bus.push("q", &round.to_string(), Some(Duration::from_secs(600))).await.unwrap();
        assert!(bus.deliver(&delivery("S", &round.to_string(), "{}")).await.unwrap());
        if round == 1 {
            server.kill();
            bus.len("q").await.unwrap_err();
        }
        server.restart();
        until("it works", async || bus.len("q").await.is_ok()).await;
        // It has kept what it was told, but for the scripts.
        assert!(!bus.deliver(&delivery("S", &round.to_string(), "{}")).await.unwrap());
    }
    assert_eq!(bus.drain("q", 9).await.unwrap().len(), 3);
    assert!(bus.stats().last_gap.is_some());
}

#[tokio::test]
async fn a_server_that_stands_still_is_no_longer_waited_for() {
    let server = RedisServer::start();
    let bus = impatient(server.url());
    bus.set("ns", "f", "v", None).await.unwrap();
    server.pause();
    let error = soon(bus.try_acquire("k", "t", PATIENCE)).await.unwrap_err();
    assert!(said(&error).contains("no answer"), "{}", said(&error));
    // Now there is not even a connection: the system takes it, and nobody answers.
    soon(bus.get("ns", "f")).await.unwrap_err();
    server.resume();
    until("it works", async || bus.get("ns", "f").await.is_ok()).await;
    assert_eq!(bus.get("ns", "f").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_left() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    bus.push("q", "{}", None).await.unwrap();
    let () = plain.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = bus.push("q", "{}", None).await.unwrap_err();
    assert!(said(&error).contains("read only"), "{}", said(&error));
    assert!(!bus.stats().connected);
    let () = plain.run(&["REPLICAOF", "NO", "ONE"]).await;
    until("it works", async || bus.push("q", "{}", Some(PATIENCE)).await.is_ok()).await;
    assert_eq!(bus.stats().connections, 2);
}
