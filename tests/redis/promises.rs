//! What every bus promises, over one bus and over several on one server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tower_offload::RedisBus;
use tower_offload::bus::SharedBus;

use crate::conformance::{Harness, conformance};
use crate::many::Many;
use crate::redis_server::RedisServer;
use crate::tools::{PATIENCE, Plain};

/// Each case has a server of its own, whose data it may age.
struct OnServer {
    bus: SharedBus,
    server: RedisServer,
}

impl OnServer {
    fn one() -> Self {
        let server = RedisServer::start();
        Self { bus: Arc::new(bus(&server)), server }
    }

    fn several() -> Self {
        let server = RedisServer::start();
        Self { bus: Arc::new(Many::new((0..3).map(|_| bus(&server)).collect())), server }
    }
}

fn bus(server: &RedisServer) -> RedisBus {
    RedisBus::builder(server.url()).prefix(PREFIX).response_timeout(PATIENCE).build().unwrap()
}

const PREFIX: &str = "test";

/// `ARGV`: milliseconds, the key of the owners. Moves every end of a time to live and of an owner's lease back by so much.
const AGE: &str = "
    for _, key in ipairs(redis.call('KEYS', '*')) do
        local left = redis.call('PTTL', key)
        -- Times that are longer have no exact number here.
        if left >= 0 and left < 1e15 then redis.call('PEXPIRE', key, string.format('%d', left - ARGV[1])) end
    end
    for _, owner in ipairs(redis.call('ZRANGE', ARGV[2], 0, -1)) do
        redis.call('ZINCRBY', ARGV[2], -ARGV[1], owner)
    end";

#[async_trait]
impl Harness for OnServer {
    fn bus(&self) -> SharedBus {
        Arc::clone(&self.bus)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn age(&self, by: Duration) {
        let (mut plain, owners) = (Plain::new(&self.server).await, format!("{PREFIX}:offload:owners"));
        let () = plain.run(&["EVAL", AGE, "0", &by.as_millis().to_string(), &owners]).await;
    }
}

conformance!(
    one_bus_keeps_the_promises,
    OnServer::one(),
    parallel = tokio::test(flavor = "multi_thread", worker_threads = 4),
    timed = tokio::test(flavor = "multi_thread", worker_threads = 2)
);

conformance!(
    several_buses_keep_the_promises,
    OnServer::several(),
    parallel = tokio::test(flavor = "multi_thread", worker_threads = 4),
    timed = tokio::test(flavor = "multi_thread", worker_threads = 2)
);
