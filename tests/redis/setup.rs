//! URLs, passwords, databases: what is known before anything goes wrong.

use std::time::Duration;

use tower_offload::RedisBus;
use tower_offload::bus::{PubSub, Queue, Registry};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, SHORT, bus, payload, said, soon};

const SECRET: &str = "hunter2";

#[test]
fn what_cannot_work_is_refused_at_once() {
    for (url, reason) in [
        ("", "URL"),
        ("redis", "URL"),
        ("127.0.0.1:6379", "URL"),
        ("http://u:hunter2@127.0.0.1", "URL"),
        ("redis://", "host"),
        ("redis:///3", "host"),
        ("redis://:hunter2@/3", "URL"),
        ("redis://u:hunter2@:6379", "URL"),
        ("redis://u:hunter2@host:99999", "URL"),
        ("redis://u:hunter2@host:0", "port 0"),
        ("redis://u:hunter2@host name", "URL"),
        ("redis://u:hunter2@0.0.0.0", "wildcard"),
        ("redis://u:hunter2@host/x", "database"),
        ("redis://u:hunter2@host/1/2", "database"),
        ("redis://u:hunter2@host/-1", "no database -1"),
        ("redis://u:hunter2@host/99999999999999999999", "database"),
        ("redis://u:hunter2@host/?protocol=resp2", "RESP3"),
        ("redis://u:hunter2@host/?protocol=hunter2", "RESP3"),
        // Not encoded, so that it ends the address.
        ("redis://u:1234#hunter2@host", "%23"),
        ("redis://u:1234?hunter2@host", "%3F"),
        ("redis://u:1234/hunter2@host", "%2F"),
        ("rediss://u:hunter2@host#insecure", if cfg!(feature = "redis-tls") { "%23" } else { "redis-tls" }),
        ("unix:", "path"),
        ("unix://host/socket", "path"),
        ("unix:///socket?db=x&pass=hunter2", "database"),
        ("unix:///socket?db=-1&pass=hunter2", "no database -1"),
    ] {
        let error = RedisBus::builder(url).build().expect_err(url);
        let said = said(&error);
        assert!(said.contains(reason), "{url}: {said}");
        assert!(!said.contains(SECRET) && !said.contains("1234"), "{url}: {said}");
    }
    #[cfg(not(feature = "redis-tls"))]
    assert!(said(&RedisBus::builder("rediss://host").build().unwrap_err()).contains("`redis-tls`"));
    #[cfg(feature = "redis-tls")]
    RedisBus::builder("rediss://host").build().unwrap();

    let builder = || RedisBus::builder("redis://127.0.0.1");
    for prefix in ["", " ", "a b", "a:"] {
        let error = builder().prefix(prefix).build().unwrap_err();
        assert!(said(&error).contains("prefix"), "{}", said(&error));
    }
    builder().response_timeout(Duration::ZERO).build().unwrap_err();
    builder().connect_timeout(Duration::ZERO).build().unwrap_err();
    for url in
        ["redis://127.0.0.1", "redis://[::1]:1/15", "valkey://host", "unix:///s", "redis+unix:///s?db=3"]
    {
        RedisBus::builder(url).response_timeout(Duration::MAX).build().unwrap();
    }
}

#[tokio::test]
async fn a_password_lets_in_and_is_never_shown() {
    let server = RedisServer::with(&["--requirepass", "hunter2 #/%é"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
    let right = "hunter2%20%23%2F%25%C3%A9";
    let builder = RedisBus::builder(url(right));
    assert!(!format!("{builder:?}").contains(SECRET));
    let bus = builder.connect().await.unwrap();
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    bus.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    assert!(!format!("{bus:?} {:?}", bus.stats()).contains(SECRET));
    assert!(format!("{bus:?}").contains(&format!("127.0.0.1:{}", server.port())));

    for (url, reason) in [(url("hunter2"), "WRONGPASS"), (server.url(), "NOAUTH")] {
        let error = RedisBus::builder(&url).connect().await.unwrap_err();
        assert_eq!(error.to_string(), "message bus: could not reach the server of the bus");
        assert!(said(&error).contains(&server.port().to_string()), "{}", said(&error));
        assert!(!said(&error).contains(SECRET), "{}", said(&error));
        assert!(said(&error).contains(reason), "{}", said(&error));

        let bus = RedisBus::builder(url).build().unwrap();
        let error = bus.subscribe(&["c"]).await.unwrap_err();
        assert!(!said(&error).contains(SECRET), "{}", said(&error));
        bus.get("ns", "f").await.unwrap_err();
        assert!(bus.stats().last_error.is_some());
        assert!(!format!("{bus:?} {:?}", bus.stats()).contains(SECRET));
    }
}

#[tokio::test]
async fn the_database_is_that_of_the_url_or_the_option() {
    let server = RedisServer::start();
    let of_url = RedisBus::builder(format!("{}/3", server.url())).build().unwrap();
    let of_option = RedisBus::builder(format!("{}/3", server.url())).database(4).build().unwrap();
    of_url.set("ns", "f", "3", None).await.unwrap();
    of_option.set("ns", "f", "4", None).await.unwrap();
    for (database, expected) in [("3", Some("3")), ("4", Some("4")), ("0", None)] {
        let mut plain = Plain::to(&format!("{}/{database}", server.url())).await;
        let value: Option<String> = plain.run(&["HGET", "ns", "f"]).await;
        assert_eq!(value.as_deref(), expected);
    }
    // Channels know no databases.
    let mut subscription = of_url.subscribe(&["c"]).await.unwrap();
    of_option.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");

    let error = RedisBus::builder(server.url()).database(9_999).connect().await.unwrap_err();
    assert!(said(&error).contains("database"), "{}", said(&error));
}

#[tokio::test]
async fn a_socket_is_as_good_as_a_port() {
    let server = RedisServer::start();
    let url = format!("unix://{}?db=2", server.socket().display());
    let unix = RedisBus::builder(url).connect().await.unwrap();
    unix.push("q", "{}", None).await.unwrap();
    let tcp = RedisBus::builder(server.url()).database(2).build().unwrap();
    assert_eq!(tcp.len("q").await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_only_for_those_who_want_to_know() {
    let mut server = RedisServer::start();
    server.stop();
    let error = soon(RedisBus::builder(server.url()).connect()).await.unwrap_err();
    assert!(
        said(&error).contains(&format!("127.0.0.1:{}: Connection refused", server.port())),
        "{}",
        said(&error)
    );

    let bus = bus(&server);
    assert_eq!((bus.stats().connected, bus.stats().connections, bus.stats().round_trips), (false, 0, 0));
    soon(bus.get("ns", "f")).await.unwrap_err();
    soon(bus.subscribe(&["c"])).await.unwrap_err();
    assert!(bus.stats().last_error.unwrap().contains("refused"));
    server.restart();
    crate::tools::until("it is there", async || bus.get("ns", "f").await.is_ok()).await;
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    bus.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    let stats = bus.stats();
    assert_eq!((stats.connected, stats.connections), (true, 1));
    assert!(stats.last_gap.is_some(), "there was no contact from the beginning on");
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    use futures_util::FutureExt;

    let bus = RedisBus::builder("redis://127.0.0.1:1").build().unwrap();
    bus.get("ns", "f").now_or_never().unwrap().unwrap_err();
    bus.subscribe(&["c"]).now_or_never().unwrap().unwrap_err();
    assert!(bus.subscribe(&[]).now_or_never().unwrap().is_ok());
}

#[test]
fn a_bus_outlives_the_runtime_that_it_was_used_in() {
    let server = RedisServer::start();
    let bus = RedisBus::builder(server.url()).response_timeout(SHORT).build().unwrap();
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            crate::tools::until("it works here", async || bus.push("q", "{}", None).await.is_ok()).await;
            let mut subscription = soon(bus.subscribe(&["c"])).await.unwrap();
            bus.publish("c", &round.to_string()).await.unwrap();
            assert_eq!(payload(&mut subscription).await, round.to_string());
        });
    }
}
