//! The layer through its front door: a real service, a real manager, paused time.

#[path = "../support/log.rs"]
mod log;
#[path = "../support/mod.rs"]
mod support;

mod caller_leaves;
mod cancellation;
mod deadlines;
mod deliveries;
mod hand_over;
mod hostile;
mod large;
mod limits;
mod model;
mod nested;
mod outcomes;
mod races;
mod readiness;
mod runtimes;
mod start;
mod stays;
mod tokens;
