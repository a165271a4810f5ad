//! What sharing tasks over a Redis costs: round trips, many offloads at once, lists, and stops.
//!
//! Run with: `cargo bench --features full --bench redis`, and with `-- --short` for a quick look. Names of
//! parts (`trips`, `offloads`, `lists`, `stops`) leave out the others.
//!
//! It starts a `redis-server` of its own. Counts and ratios have goals, and it fails when one is missed; times alone
//! have none, because they are the machine's.

mod lists;
mod offloads;
mod process;
#[path = "../../tests/support/redis_server.rs"]
mod redis_server;
mod report;
mod server;
mod stops;
mod tap;
mod trips;

use std::process::ExitCode;

use self::report::Report;

/// How much is measured.
struct Effort {
    /// Rounds, in each of which ours and what it is compared to take turns; one more warms up.
    rounds: usize,
    /// Offloads at once.
    offloads: usize,
    /// Reads in a round.
    reads: usize,
    stops: usize,
    /// How many times as long as the bare client.
    goal: f64,
}

const FULL: Effort = Effort { rounds: 9, offloads: 10_000, reads: 300, stops: 500, goal: 2.0 };
/// With slack: on a machine that others use too short rounds say less.
const SHORT: Effort = Effort { rounds: 7, offloads: 2_000, reads: 50, stops: 100, goal: 2.5 };

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let (options, parts): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .partition(|argument| argument.starts_with('-'));
    let effort = match &*options {
        [] => FULL,
        [short] if short == "--short" => SHORT,
        _ => {
            eprintln!("usage: redis [--short] [trips] [offloads] [lists] [stops]");
            return ExitCode::from(2);
        }
    };
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut report = Report::default();
    if is_wanted("trips") {
        trips::measure(&mut report).await;
    }
    if is_wanted("offloads") {
        offloads::measure(&mut report, &effort).await;
    }
    if is_wanted("lists") {
        lists::measure(&mut report, &effort).await;
    }
    if is_wanted("stops") {
        stops::measure(&mut report, &effort).await;
    }
    println!();
    match report.print() {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} goals were missed");
            ExitCode::FAILURE
        }
    }
}
