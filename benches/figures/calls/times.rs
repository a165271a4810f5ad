//! Times of the same calls, in rounds in which all variants take turns.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::inner::Work;
use super::run::{AtOnce, OneByOne, TASKS};
use super::title;
use super::variants::{VARIANTS, with};
use crate::effort::Effort;
use crate::measure::runtime::{current_thread, two_workers};
use crate::report::{Report, Rounds};

const CALLS: u64 = 20_000;
const CALLS_OF_EACH: u64 = 20;

/// Services whose futures have another size: they have no timer, so that they cannot sleep.
fn is_sized(variant: &str) -> bool {
    variant.starts_with("small-") || variant.starts_with("large-")
}

/// What only differs by a few instructions.
const UNTOLD: &[&str] = &["offload-none", "offload-disconnect"];

pub(super) fn measure(report: &mut Report, effort: &Effort) {
    for (runtime, threads) in [(current_thread(), "current_thread"), (two_workers(), "two workers")] {
        for work in [Work::Ready, Work::Once, Work::Sleeping] {
            let time = |variant: &str| one(&runtime, work, variant);
            let what = if work == Work::Sleeping { "CPU time" } else { "time" };
            for (variant, rounds) in rounds(effort, work, time) {
                let name = if work == Work::Sleeping { "500 that sleep 1 ms" } else { work.name() };
                report.ratio(format!("{name}, {threads}: {what}, {}", title(variant)), &rounds);
            }
        }
    }
}

/// Each variant against its bare service in the same round.
fn rounds(effort: &Effort, work: Work, time: impl Fn(&str) -> Duration) -> Vec<(&'static str, Rounds)> {
    let told = VARIANTS
        .iter()
        .filter(|(name, _)| !UNTOLD.contains(name) && (work != Work::Sleeping || !is_sized(name)));
    let compared = told.clone().filter(|(variant, bare)| variant != bare);
    let mut all: Vec<_> = compared.map(|(variant, bare)| (*variant, *bare, Rounds::new("bare"))).collect();
    for round in 0..=effort.rounds {
        let times: Vec<_> = told.clone().map(|(variant, _)| (*variant, time(variant))).collect();
        let of =
            |wanted| times.iter().find(|(name, _)| *name == wanted).map_or(Duration::ZERO, |(_, time)| *time);
        // The first round warms up.
        if round > 0 {
            all.iter_mut().for_each(|(variant, bare, rounds)| rounds.push(of(*variant), of(*bare)));
        }
    }
    all.into_iter().map(|(variant, _, rounds)| (variant, rounds)).collect()
}

/// The time of one call.
fn one(runtime: &Runtime, work: Work, variant: &str) -> Duration {
    let mut took = Duration::ZERO;
    let (known, calls) = if work == Work::Sleeping {
        let visit = AtOnce { runtime, calls: CALLS_OF_EACH, took: &mut took };
        (with(variant, work, visit), TASKS * CALLS_OF_EACH)
    } else {
        let visit = OneByOne { runtime, calls: CALLS, in_span: false, took: &mut took };
        (with(variant, work, visit), CALLS)
    };
    assert!(known, "there is no variant {variant}");
    took / u32::try_from(calls).unwrap_or(u32::MAX)
}
