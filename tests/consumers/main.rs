//! Those who read what is on the bus: the wakeups of all sessions, and the inbox of one.

#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/mod.rs"]
mod support;

mod busy;
mod common;
mod hand_back;
mod inbox;
mod inbox_end;
mod runners;
mod runtimes;
mod trouble;
mod wakeups;
