//! What the tests of this crate share.

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use tower_offload::bus::{BusError, Delivery, Message, Subscription, SubscriptionEvent};
use tower_offload::{RedisBus, TaskMeta};

use crate::redis_server::RedisServer;

pub(crate) use crate::patience::PATIENCE;

/// The response timeout of a bus whose server does not answer. A server that is well answers in less, on a busy machine
/// too.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

pub(crate) fn bus(server: &RedisServer) -> RedisBus {
    RedisBus::builder(server.url()).build().unwrap()
}

/// The same to a server or a proxy, with timeouts that a test can wait for.
pub(crate) fn impatient(url: String) -> RedisBus {
    RedisBus::builder(url).response_timeout(SHORT).connect_timeout(SHORT).build().unwrap()
}

/// What somebody else sees on the server.
pub(crate) struct Plain(MultiplexedConnection);

impl Plain {
    pub(crate) async fn new(server: &RedisServer) -> Self {
        Self::to(&server.url()).await
    }

    pub(crate) async fn to(url: &str) -> Self {
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(PATIENCE));
        let client = redis::Client::open(url).unwrap();
        Self(client.get_multiplexed_async_connection_with_config(&config).await.unwrap())
    }

    /// Runs a command, given as its words.
    pub(crate) async fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        self.run_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await
    }

    pub(crate) async fn run_bytes<T: FromRedisValue>(&mut self, words: &[&[u8]]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut self.0).await.unwrap()
    }

    /// All keys, sorted.
    pub(crate) async fn keys(&mut self) -> Vec<String> {
        let mut keys: Vec<String> = self.run(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }

    /// The fields of all entries of a stream.
    pub(crate) async fn entries(&mut self, key: &str) -> Vec<Vec<String>> {
        let entries: Vec<(String, Vec<String>)> = self.run(&["XRANGE", key, "-", "+"]).await;
        entries.into_iter().map(|(_, fields)| fields).collect()
    }

    pub(crate) async fn listeners(&mut self, channel: &str) -> usize {
        let (_, count): (String, usize) = self.run(&["PUBSUB", "NUMSUB", channel]).await;
        count
    }

    /// All connections to the server, this one included.
    pub(crate) async fn connections(&mut self) -> usize {
        let list: String = self.run(&["CLIENT", "LIST"]).await;
        list.lines().count()
    }

    pub(crate) async fn pubsub_connections(&mut self) -> usize {
        let list: String = self.run(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        list.lines().count()
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < give_up, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What must not take for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
}

pub(crate) async fn event(subscription: &mut Subscription) -> SubscriptionEvent {
    soon(subscription.recv()).await.expect("the subscription lives")
}

/// The next message; anything else is a failure.
pub(crate) async fn message(subscription: &mut Subscription) -> Message {
    match event(subscription).await {
        SubscriptionEvent::Message(message) => message,
        other => panic!("a message was expected and not {other:?}"),
    }
}

pub(crate) async fn payload(subscription: &mut Subscription) -> String {
    message(subscription).await.payload.to_string()
}

/// What was lost while the connection was down is told next.
pub(crate) async fn is_live_again(subscription: &mut Subscription) {
    let event = event(subscription).await;
    assert!(matches!(event, SubscriptionEvent::Lagged(0)), "{event:?}");
}

pub(crate) fn delivery(session: &str, key: &str, payload: &str) -> Delivery {
    let meta = TaskMeta::new("U", "tool").with_session(session).with_agent("AG");
    Delivery::new(key, &meta, payload.to_owned())
}

/// All that an error says, to whoever asks in whatever way.
pub(crate) fn said(error: &BusError) -> String {
    let mut text = format!("{error} | {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" | {cause} | {cause:?}");
        source = cause.source();
    }
    text
}
