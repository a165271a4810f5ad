//! Tokio runtimes that end or stand still while the bus is used on others, and `tracing` subscribers that call the bus.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use tokio::runtime::{Builder, Runtime};
use tower_offload::RedisBus;
use tower_offload::bus::{PubSub, Registry, SubscriptionEvent};
use tracing::span;

use crate::redis_server::RedisServer;
use crate::tools::{PATIENCE, Plain, bus, event, is_live_again, payload, said, soon, until};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Pairs of a runtime that ends and one that stays. A `current_thread` runtime that is not driven stands still, so that
/// the first one has threads of its own where both are in use.
fn pairs(flavours: [fn() -> Runtime; 2]) -> impl Iterator<Item = (Runtime, Runtime)> {
    let other: [fn() -> Runtime; 2] = [one_thread, two_threads];
    flavours.into_iter().flat_map(move |ends| other.into_iter().map(move |stays| (ends(), stays())))
}

#[test]
fn a_call_succeeds_after_the_runtime_of_the_connection_has_ended() {
    let server = RedisServer::start();
    for (ends, stays) in pairs([one_thread, two_threads]) {
        let bus = bus(&server);
        ends.block_on(soon(bus.set("ns", "f", "1", None))).unwrap();
        drop(ends);
        assert_eq!(stays.block_on(soon(bus.get("ns", "f"))).unwrap().as_deref(), Some("1"));
        assert_eq!(bus.stats().connections, 2);
        drop(stays);
        // Also when one runtime after the other ends, with no pause for a server that is well.
        for _ in 0..5 {
            one_thread().block_on(soon(bus.get("ns", "f"))).unwrap();
        }
    }
}

#[test]
fn a_request_under_way_when_its_runtime_ends_is_an_error_and_the_next_one_succeeds() {
    let server = RedisServer::start();
    let (ends, stays) = (two_threads(), one_thread());
    let bus = RedisBus::builder(server.url()).response_timeout(PATIENCE * 10).build().unwrap();
    ends.block_on(soon(bus.set("ns", "f", "1", None))).unwrap();
    server.pause();
    let waiting = stays.spawn({
        let bus = bus.clone();
        async move { bus.get("ns", "f").await }
    });
    stays.block_on(async {
        // It is sent before the runtime ends.
        until("the request is under way", async || bus.stats().round_trips == 2).await;
        ends.shutdown_background();
        let error = soon(waiting).await.unwrap().unwrap_err();
        assert!(said(&error).contains("Redis at"), "{}", said(&error));
        server.resume();
        assert_eq!(soon(bus.get("ns", "f")).await.unwrap().as_deref(), Some("1"));
    });
}

#[test]
fn an_attempt_to_connect_that_ends_with_its_runtime_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (says, accepted) = mpsc::channel();
    std::thread::spawn(move || {
        // The first attempt is never answered, the second one is refused.
        let first = listener.accept().unwrap();
        says.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        let _ = second.read(&mut [0; 1024]);
        let _ = second.write_all(b"-ERR not today\r\n");
        drop(first);
    });
    let bus = RedisBus::builder(url).connect_timeout(PATIENCE * 10).build().unwrap();
    let (ends, stays) = (two_threads(), two_threads());
    let get = |bus: RedisBus| async move { bus.get("ns", "f").await };
    ends.spawn(get(bus.clone()));
    accepted.recv_timeout(PATIENCE).unwrap();
    // It waits for that attempt, or finds a little later that there is none: either will do.
    let waiting = stays.spawn(get(bus));
    ends.shutdown_background();
    let error = stays.block_on(soon(waiting)).unwrap().unwrap_err();
    assert!(said(&error).contains("not today"), "{}", said(&error));
}

#[test]
fn subscriptions_go_on_when_the_runtime_of_their_connection_ends() {
    let server = RedisServer::start();
    for (ends, stays) in pairs([two_threads, two_threads]) {
        let bus = bus(&server);
        let mut made_here = ends.block_on(soon(bus.subscribe(&["c"]))).unwrap();
        let mut made_there = stays.block_on(soon(bus.subscribe(&["c"]))).unwrap();
        let (heard, hears) = mpsc::channel();
        let waiting = stays.spawn(async move {
            heard.send(()).unwrap();
            (event(&mut made_there).await, made_there)
        });
        if matches!(stays.handle().runtime_flavor(), tokio::runtime::RuntimeFlavor::MultiThread) {
            hears.recv_timeout(PATIENCE).unwrap();
        }
        drop(ends);
        stays.block_on(async {
            let (told, mut made_there) = soon(waiting).await.unwrap();
            assert!(matches!(told, SubscriptionEvent::Lagged(0)), "{told:?}");
            is_live_again(&mut made_here).await;
            soon(bus.publish("c", "1")).await.unwrap();
            assert_eq!(payload(&mut made_here).await, "1");
            assert_eq!(payload(&mut made_there).await, "1");
            assert_eq!(bus.stats().subscriptions, 2);

            // They end as before: one by one, and with the bus.
            drop(made_there);
            until("it is gone", async || bus.stats().subscriptions == 1).await;
            drop(bus);
            assert!(soon(made_here.recv()).await.is_none());
        });
    }
}

#[test]
fn subscriptions_wait_while_no_runtime_is_there() {
    let server = RedisServer::start();
    let bus = bus(&server);
    let mut subscription = one_thread().block_on(soon(bus.subscribe(&["c"]))).unwrap();
    let next = two_threads();
    next.block_on(async {
        is_live_again(&mut subscription).await;
        soon(bus.publish("c", "1")).await.unwrap();
        assert_eq!(payload(&mut subscription).await, "1");
        let mut plain = Plain::new(&server).await;
        assert_eq!(plain.listeners("c").await, 1);
    });
}

#[test]
fn subscriptions_go_on_when_the_runtime_of_their_connection_stands_still() {
    let server = RedisServer::start();
    let bus = bus(&server);
    let (stands, runs) = (one_thread(), one_thread());
    let mut subscription = stands.block_on(soon(bus.subscribe(&["c"]))).unwrap();
    runs.block_on(async {
        is_live_again(&mut subscription).await;
        soon(bus.publish("c", "1")).await.unwrap();
        assert_eq!(payload(&mut subscription).await, "1");
    });
    drop(stands);
}

/// A subscriber that asks the bus how it is, for each line.
struct Asks(Arc<OnceLock<RedisBus>>, Arc<AtomicUsize>);

impl tracing::Subscriber for Asks {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_offload")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        if let Some(bus) = self.0.get() {
            let _ = bus.stats();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_subscriber_of_logs_may_ask_for_the_stats_of_the_bus() {
    let (done, is_done) = mpsc::channel();
    // In a thread of its own, which a deadlock would keep.
    std::thread::spawn(move || {
        let mut server = RedisServer::start();
        let bus = bus(&server);
        let (known, lines) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
        known.set(bus.clone()).unwrap();
        // With a single subscriber in the process `tracing` would take the answers of other tests' threads for its own.
        let _second = tracing::Dispatch::new(Asks(Arc::default(), Arc::default()));
        tracing::subscriber::with_default(Asks(known, Arc::clone(&lines)), || {
            one_thread().block_on(async {
                // It connects, loses the connection, and does not get another one.
                bus.get("ns", "f").await.unwrap();
                server.stop();
                until("it is lost", async || {
                    bus.get("ns", "f").await.is_err() && lines.load(Ordering::SeqCst) >= 3
                })
                .await;
            });
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE * 2).expect("there is no deadlock");
}
