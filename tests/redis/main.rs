//! The bus on Redis, with `redis-server` processes of its own: what every bus promises (`conformance`), what is on the
//! wire, and what happens when the network or the server does not do what it should.

#[path = "../bus/conformance/mod.rs"]
mod conformance;
mod deliveries;
mod hazards;
mod many;
mod network;
#[cfg(feature = "api")]
mod newer;
#[path = "../support/patience.rs"]
mod patience;
mod promises;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod runtimes;
mod setup;
mod subscriptions;
#[cfg(feature = "redis-tls")]
mod tls;
mod tools;
mod wire;
