//! Calls through the layer in a second, of those that are ready at once.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tower::{Layer, Service, service_fn};
use tower_offload::{OffloadLayer, TaskRecord};

use super::{Kept, manager};
use crate::effort::Effort;
use crate::report::Report;

const CALLS: u64 = 2_000_000;

pub(crate) fn measure(report: &mut Report, _: &Effort) {
    for threads in [1, 2] {
        // The best of five: the one that other programs have disturbed least.
        let took = (0..5).map(|_| run(threads, CALLS)).min().unwrap_or_default();
        let rate = (CALLS * threads) as f64 / took.as_secs_f64();
        report.per_second(format!("calls that are ready at once, threads: {threads}"), rate);
    }
}

/// Each thread has a clone of the service.
fn run(threads: u64, calls: u64) -> Duration {
    let service = OffloadLayer::new(manager(), Duration::from_secs(60))
        .describe(|number: &u64| Some(Kept(*number)))
        .respond(|_: &TaskRecord| 0)
        .layer(service_fn(async |number: u64| Ok::<_, Infallible>(number)));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let mut service = service.clone();
            scope.spawn(move || {
                for number in 0..calls {
                    let answer = black_box(service.call(number)).now_or_never();
                    assert_eq!(answer, Some(Ok(number)));
                }
            });
        }
    });
    begun.elapsed()
}
