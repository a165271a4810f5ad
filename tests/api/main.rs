//! The REST view through its front door: a real server on a real socket, and a client that can send anything.

mod endpoints;
mod facade;
#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
mod identity;
mod ids;
mod lists;
mod mounting;
#[path = "../support/patience.rs"]
mod patience;
mod requests;
mod support;
#[cfg(feature = "swagger-ui")]
mod swagger_ui;
mod uploads;
