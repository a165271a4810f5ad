//! The message bus: what every bus promises (`conformance`), and what only the one in memory does.

mod bounds;
mod conformance;
mod lease;
#[path = "../support/log.rs"]
mod log;
mod memory;
mod model;
#[path = "../support/patience.rs"]
mod patience;
