//! What every bus promises, over one bus and over several on one server.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use tower_offload::RedisBus;
use tower_offload::bus::SharedBus;
use uuid::Uuid;

use crate::conformance::{Harness, conformance};
use crate::many::Many;
use crate::redis_server::RedisServer;

struct OnServer(SharedBus);

impl OnServer {
    fn one() -> Self {
        static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
        Self(Arc::new(bus(&SERVER, &prefix())))
    }

    fn several() -> Self {
        static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
        let prefix = prefix();
        Self(Arc::new(Many::new((0..3).map(|_| bus(&SERVER, &prefix)).collect())))
    }
}

/// Of each case its own, so that they can share a server.
fn prefix() -> String {
    format!("test:{}", Uuid::new_v4())
}

fn bus(server: &RedisServer, prefix: &str) -> RedisBus {
    RedisBus::builder(server.url()).prefix(prefix).build().unwrap()
}

#[async_trait]
impl Harness for OnServer {
    fn bus(&self) -> SharedBus {
        Arc::clone(&self.0)
    }

    async fn advance(&self, by: Duration) {
        // The server's clock is a real one.
        tokio::time::sleep(by).await;
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
