//! The bus on Redis, with `redis-server` processes of its own: what every bus promises (`conformance`), what is on the
//! wire, and what happens when the network or the server does not do what it should.

#[path = "../bus/conformance/mod.rs"]
mod conformance;
mod many;
mod promises;
#[path = "../support/redis_server.rs"]
mod redis_server;
