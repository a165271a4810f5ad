//! What others may have written, and should not have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_offload::bus::{EntryId, Lock, Log, PubSub, Queue, Registry};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, bus, payload, said};

const NOT_UTF8: &[u8] = b"\xff\xfe";

async fn add(plain: &mut Plain, key: &str, field: &[u8], value: &[u8]) {
    let _: String = plain.run_bytes(&[b"XADD", key.as_bytes(), b"*", field, value]).await;
}

#[tokio::test]
async fn entries_that_cannot_be_read_cost_nobody_the_others() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    for key in ["q", "l"] {
        add(&mut plain, key, b"other", b"{}").await;
        add(&mut plain, key, b"payload", b"1").await;
        add(&mut plain, key, b"payload", NOT_UTF8).await;
        add(&mut plain, key, NOT_UTF8, NOT_UTF8).await;
        let _: String = plain.run(&["XADD", key, "*", "a", "b", "payload", "2", "payload", "3"]).await;
        add(&mut plain, key, b"Payload", b"{}").await;
    }
    let read = bus.read("l", None, 100).await.unwrap();
    let drained = bus.drain("q", 100).await.unwrap();
    for entries in [read, drained] {
        assert_eq!(entries.iter().map(|entry| &*entry.payload).collect::<Vec<_>>(), ["1", "2"]);
    }
    assert_eq!(bus.len("q").await.unwrap(), 0);
}

#[tokio::test]
async fn a_page_of_such_entries_does_not_end_the_reading() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    for key in ["q", "l"] {
        for _ in 0..7 {
            add(&mut plain, key, b"other", b"{}").await;
        }
        add(&mut plain, key, b"payload", b"1").await;
        add(&mut plain, key, b"other", b"{}").await;
    }
    let read = bus.read("l", None, 2).await.unwrap();
    assert_eq!((read.len(), &*read[0].payload), (1, "1"));
    assert_eq!(bus.read("l", Some(read[0].id), 2).await.unwrap(), []);
    assert_eq!(bus.drain("q", 2).await.unwrap()[0].payload, "1");
    assert_eq!(bus.drain("q", 2).await.unwrap(), []);
}

#[tokio::test]
async fn the_greatest_ids_are_read() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let last = EntryId { millis: u64::MAX, sequence: u64::MAX };
    let _: String = plain.run(&["XADD", "l", &last.to_string(), "payload", "1"]).await;
    assert_eq!(bus.read("l", None, 9).await.unwrap()[0].id, last);
    let error = bus.append("l", "2", None, None).await.unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not append to a log");
}

#[tokio::test]
async fn values_that_are_not_text_are_errors_or_skipped() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let () = plain.run_bytes(&[b"HSET", b"ns", b"bad", NOT_UTF8]).await;
    let () = plain.run_bytes(&[b"HSET", b"ns", NOT_UTF8, b"1"]).await;
    let () = plain.run_bytes(&[b"HSET", b"ns", b"good", b"1"]).await;
    assert_eq!(bus.get_all("ns").await.unwrap(), [("good".to_owned(), "1".to_owned())]);
    bus.get("ns", "bad").await.unwrap_err();
    bus.take("ns", "bad").await.unwrap_err();
    assert!(!bus.set_if("ns", "good", "2", "\u{fffd}", None).await.unwrap());
    assert_eq!(bus.take("ns", "good").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn messages_that_are_not_text_are_skipped() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    let hears: usize = plain.run_bytes(&[b"PUBLISH", b"c", NOT_UTF8]).await;
    assert_eq!(hears, 1);
    bus.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_stays_as_it_is() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let second = Duration::from_secs(1);
    let () = plain.run(&["RPUSH", "key", "a list"]).await;
    let errors = [
        bus.set("key", "f", "v", Some(second)).await.unwrap_err(),
        bus.get("key", "f").await.unwrap_err(),
        bus.set_if("key", "f", "v", "v", Some(second)).await.unwrap_err(),
        bus.push("key", "{}", Some(second)).await.unwrap_err(),
        bus.drain("key", 1).await.unwrap_err(),
        bus.append("key", "{}", Some(second), Some(1)).await.unwrap_err(),
        bus.renew("key", "t", second).await.unwrap_err(),
        bus.release("key", "t").await.unwrap_err(),
    ];
    for error in errors {
        assert!(said(&error).contains("WRONGTYPE"), "{}", said(&error));
    }
    assert_eq!(plain.run::<i64>(&["PTTL", "key"]).await, -1);
    assert_eq!(bus.stats().connections, 1, "the connection is well");
}

#[tokio::test]
async fn scripts_are_loaded_again_when_the_server_has_forgotten_them() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    for number in 0..3 {
        bus.push("q", &number.to_string(), Some(Duration::from_secs(60))).await.unwrap();
        let () = plain.run(&["SCRIPT", "FLUSH"]).await;
    }
    let payloads: Vec<_> = bus.drain("q", 9).await.unwrap().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(payloads, ["0", "1", "2"], "each once");
}

#[tokio::test]
async fn a_flood_of_messages_that_cannot_be_read_is_no_flood_of_log_lines() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    for _ in 0..500 {
        let _: usize = plain.run_bytes(&[b"PUBLISH", b"c", NOT_UTF8]).await;
        add(&mut plain, "q", b"payload", NOT_UTF8).await;
        let _: usize = plain.run_bytes(&[b"HSET", b"ns", b"f", NOT_UTF8]).await;
    }
    assert_eq!(bus.drain("q", 1_000).await.unwrap(), []);
    for _ in 0..500 {
        assert_eq!(bus.get_all("ns").await.unwrap(), []);
    }
    bus.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    // One of each kind in five seconds, and this takes no minute.
    assert!(log.lines().count() < 50, "{log}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
