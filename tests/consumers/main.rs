//! Those who read what is on the bus: the wakeups of all sessions.

#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
#[path = "../support/mod.rs"]
mod support;

mod busy;
mod common;
mod hand_back;
mod trouble;
mod wakeups;
