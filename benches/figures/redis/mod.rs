//! What sharing tasks over a Redis costs: round trips, many offloads at once, lists, and stops.
//!
//! It starts a `redis-server` of its own. Round trips have goals; times and their ratios have none, because they belong
//! to the machine.

mod lists;
mod offloads;
#[path = "../../../tests/support/patience.rs"]
mod patience;
mod process;
#[path = "../../../tests/support/redis_server.rs"]
mod redis_server;
mod server;
mod stops;
mod tap;
mod trips;

use std::future::Future;

use crate::effort::Effort;
use crate::measure::runtime::two_workers;
use crate::report::Report;

fn run(part: impl Future<Output = ()>) {
    two_workers().block_on(part);
}

pub(crate) fn trips(report: &mut Report, _: &Effort) {
    run(trips::measure(report));
}

pub(crate) fn offloads(report: &mut Report, effort: &Effort) {
    run(offloads::measure(report, &effort.redis));
}

pub(crate) fn lists(report: &mut Report, effort: &Effort) {
    run(lists::measure(report, &effort.redis));
}

pub(crate) fn stops(report: &mut Report, effort: &Effort) {
    run(stops::measure(report, &effort.redis));
}
