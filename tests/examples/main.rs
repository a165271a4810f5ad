//! The examples, run as a newcomer runs them: the real programs, over real sockets.
#![cfg(all(feature = "http", feature = "tool", feature = "swagger-ui"))]

#[path = "../support/client.rs"]
mod client;

mod agent_service;
mod bad_input;
mod hosts;
mod orphans;
mod others;
mod program;
mod shutdown;
