//! The feature `tool` through the front door: the layer around a service of tools, the manager, and a bus.
#![cfg(feature = "tool")]

mod common;
mod delivery;
#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
mod foreign_texts;
mod hint;
mod offload;
mod policy;
mod stop;
mod stop_input;
mod types;
