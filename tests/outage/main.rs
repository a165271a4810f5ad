//! What managers and layers do when the Redis that they share is away: stopped, emptied, cut off, mute or slow.

#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis_server.rs"]
mod redis_server;
#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod consumers;
mod foreground;
mod health;
mod local;
mod loss;
mod owners;
mod process;
mod reads;
mod slow;
mod stops;
mod world;
