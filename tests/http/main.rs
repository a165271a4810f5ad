//! The hooks of the feature `http`, through the real layer.
#![cfg(feature = "http")]

mod caller;
mod compose;
mod disconnect;
mod fast;
mod outcome;
mod placeholder;
mod refuse;
mod scope;
mod stays;
mod support;
mod timeout;
mod wire;
