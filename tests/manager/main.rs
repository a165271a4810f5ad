//! The manager by itself: records, retention, changes, shutdown, and what comes over the bus.

#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod dispatcher;
mod model;
mod records;
mod retention;
mod secrets;
mod shutdown;
mod stops;
mod tokens;
