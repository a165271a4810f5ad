//! The hooks of the feature `http`, through the real layer.
#![cfg(feature = "http")]

mod caller;
mod compose;
mod disconnect;
mod fast;
mod outcome;
#[path = "../support/patience.rs"]
mod patience;
mod placeholder;
mod refuse;
mod scope;
mod stays;
mod support;
mod timeout;
mod wire;
mod wrapped;
