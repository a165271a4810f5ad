//! One call through an axum router, over a layer that does nothing: `Router::layer` itself is not free.

mod variants;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use self::variants::{VARIANTS, router};
use crate::calls::{Work, answered};
use crate::effort::Effort;
use crate::measure::runtime::{current_thread, on, two_workers};
use crate::measure::valgrind::{Counted, heap, instructions};
use crate::report::{Report, Rounds};

const COUNTS: [u64; 2] = [500, 3_000];
const CALLS: u64 = 5_000;

pub(crate) fn probe(name: &str, count: u64) -> bool {
    let Some((work, variant)) = name.split_once('/') else { return false };
    let work = if work == "ready" { Work::Ready } else { Work::Once };
    let Some(router) = router(variant, work) else { return false };
    one_by_one(&current_thread(), router, count);
    true
}

/// As servers do it: a clone of the router for each request.
fn one_by_one(runtime: &Runtime, router: Router, calls: u64) -> Duration {
    let begun = Instant::now();
    on(runtime, async move {
        let (parts, ()) = request().into_parts();
        for _ in 0..calls {
            let request = Request::from_parts(parts.clone(), Body::empty());
            answered(router.clone().oneshot(request)).await;
        }
    });
    begun.elapsed()
}

/// With a path, and the three headers of which the layer keeps something.
fn request() -> Request<()> {
    Request::post("/reports/2026")
        .header("x-user-id", "alice")
        .header("x-session-id", "session-1")
        .header("x-request-id", "0123456789abcdef")
        .body(())
        .expect("it is a request")
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    for work in [Work::Ready, Work::Once] {
        counts(report, work, effort);
    }
    if effort.counts_only {
        return;
    }
    for (runtime, threads) in [(current_thread(), "current_thread"), (two_workers(), "two workers")] {
        for work in [Work::Ready, Work::Once] {
            times(report, effort, work, &runtime, threads);
        }
    }
}

fn counts(report: &mut Report, work: Work, effort: &Effort) {
    let needed = ["no-op", "timeout", "spawn", "offload", "offload-http", "offload-axum"];
    let variants = VARIANTS.iter().filter(|(name, _)| !effort.counts_only || needed.contains(name));
    let names: Vec<_> = variants.map(|(name, _)| *name).collect();
    let probes: Vec<_> =
        names.iter().map(|name| Counted::new(format!("router/{}/{name}", work.name()), COUNTS)).collect();
    let instructions = instructions(&probes);
    let of =
        |name: &str| names.iter().position(|known| *known == name).map_or(f64::NAN, |at| instructions[at]);
    let added = |name| of(name) - of("no-op");
    let when = work.name();
    report.fact(format!("{when}: instructions with the no-op layer"), format!("{:.0}", of("no-op")));
    let timeout = (added("timeout"), "HandleError + timeout");
    let ours = format!("{when}: OffloadLayer, nothing kept: instructions added");
    report.against(ours, added("offload"), timeout, Some(0.65));
    report.against("  the same", added("offload"), (added("spawn"), "a task for each call"), None);
    let goal = (work == Work::Ready).then_some(1.4);
    let ours = format!("{when}: http::layer, path and three headers kept: instructions added");
    report.against(ours, added("offload-http"), timeout, goal);
    let ours = format!("{when}: BackgroundTasks::layer, path and three headers kept: instructions added");
    report.against(ours, added("offload-axum"), timeout, None);
    if effort.counts_only {
        return;
    }
    report.against(
        format!("{when}: tower-http TimeoutLayer: instructions added"),
        added("http-timeout"),
        timeout,
        None,
    );
    let heap = heap(&probes);
    let of = |name: &str| {
        names.iter().position(|known| *known == name).map_or(f64::NAN, |at| heap[at].allocations)
    };
    for (name, title) in VARIANTS.iter().filter(|(name, _)| *name != "no-op") {
        let added = of(name) - of("no-op");
        report.fact(format!("{when}: allocations added: {title}"), format!("{added:.2}"));
    }
}

fn times(report: &mut Report, effort: &Effort, work: Work, runtime: &Runtime, threads: &str) {
    let mut all = vec![Rounds::new("no-op"); VARIANTS.len()];
    for round in 0..=effort.rounds {
        let times: Vec<_> = VARIANTS
            .iter()
            .map(|(name, _)| {
                let router = router(name, work).unwrap_or_else(|| panic!("there is no variant {name}"));
                one_by_one(runtime, router, CALLS) / u32::try_from(CALLS).unwrap_or(u32::MAX)
            })
            .collect();
        // The first round warms up.
        if round > 0 {
            all.iter_mut().zip(&times).for_each(|(rounds, time)| rounds.push(*time, times[0]));
        }
    }
    for ((_, title), rounds) in VARIANTS.iter().zip(&all).skip(1) {
        report.ratio(format!("{}, {threads}: time, {title}", work.name()), rounds);
    }
}
