//! One call through a service that is done in time: what the layer adds, in instructions, allocations and time.

mod inner;
mod run;
mod spawned;
mod times;
mod variants;

use std::collections::BTreeMap;
use std::time::Duration;

use tracing_subscriber::Registry;

pub(crate) use self::inner::{Inner, Work};
use self::run::OneByOne;
pub(crate) use self::spawned::Spawned;
pub(crate) use self::variants::{TIMEOUT, answered, tool_call};
use self::variants::{VARIANTS, with};
use crate::effort::Effort;
use crate::measure::runtime::current_thread;
use crate::measure::syscalls::syscalls;
use crate::measure::valgrind::{Counted, Heap, heap, instructions};
use crate::report::Report;

const COUNTS: [u64; 2] = [1_000, 6_000];

/// Behind the name of a variant: with a subscriber of `tracing`, in a span.
const TRACED: &str = "+span";

/// What is named in the table.
fn title(variant: &str) -> &str {
    match variant {
        "timeout" => "tower::timeout",
        "spawn" => "a task for each call",
        "offload" => "OffloadLayer, a number kept",
        "small-timeout" => "16 B future: tower::timeout",
        "small-spawn" => "16 B future: a task for each call",
        "small-offload" => "16 B future: OffloadLayer, a number kept",
        "large-timeout" => "2 KiB future: tower::timeout",
        "large-spawn" => "2 KiB future: a task for each call",
        "large-offload" => "2 KiB future: OffloadLayer, a number kept",
        "offload-none" => "OffloadLayer, never hands over",
        "offload-meta" => "OffloadLayer, a TaskMeta made for each call",
        "offload-disconnect" => "OffloadLayer, OnDisconnect::HandOver",
        "tool-offload" => "OffloadLayer::for_tools",
        "http-timeout" => "tower-http TimeoutLayer",
        "http-offload" => "http::layer, path and three headers kept",
        "offload+span" => "OffloadLayer, a number kept, in a tracing span",
        "offload-disconnect+span" => "OffloadLayer, OnDisconnect::HandOver, in a tracing span",
        other => other,
    }
}

pub(crate) fn probe(name: &str, count: u64) -> bool {
    let Some((work, variant)) = name.split_once('/') else { return false };
    let Some(work) = [Work::Ready, Work::Once, Work::Sleeping].into_iter().find(|known| known.name() == work)
    else {
        return false;
    };
    let (variant, in_span) = match variant.strip_suffix(TRACED) {
        Some(variant) => (variant, true),
        None => (variant, false),
    };
    if in_span {
        tracing::subscriber::set_global_default(Registry::default()).expect("there is none yet");
    }
    let runtime = current_thread();
    let mut took = Duration::ZERO;
    let calls = OneByOne { runtime: &runtime, calls: count, in_span, took: &mut took };
    with(variant, work, calls)
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    let counts = Counts::of_all(effort);
    for work in [Work::Ready, Work::Once] {
        counts.tell(report, work, effort);
    }
    if effort.counts_only {
        return;
    }
    let probe = Counted::new("calls/ready/offload", [1_000, 21_000]);
    match syscalls(&probe) {
        Some(calls) => report.most("ready: calls to the kernel", calls, 0.0, ""),
        None => report.fact("ready: calls to the kernel", "not counted, no strace"),
    }
    for variant in ["timeout", "http-timeout"] {
        if let Some(calls) = syscalls(&Counted { probe: format!("calls/ready/{variant}"), ..probe.clone() }) {
            report.fact(format!("  of {}", title(variant)), format!("{calls:.2}"));
        }
    }
    times::measure(report, effort);
}

/// What one call takes, by the name of its probe.
struct Counts {
    instructions: BTreeMap<String, f64>,
    heap: BTreeMap<String, Heap>,
}

impl Counts {
    fn of_all(effort: &Effort) -> Self {
        // Without times, what has no goal is left out.
        let needed = |name: &&str| SIZES.iter().any(|size| size.variants().contains(name));
        let variants = VARIANTS.iter().map(|(name, _)| *name);
        let variants = variants.filter(|name| !effort.counts_only || needed(name));
        let traced = ["bare+span", "offload+span", "offload-disconnect+span"];
        let traced = traced.into_iter().filter(|_| !effort.counts_only);
        let names: Vec<_> = variants
            .chain(traced)
            .flat_map(|variant| [Work::Ready, Work::Once].map(|work| format!("{}/{variant}", work.name())))
            .collect();
        let probe = |name: &String| Counted::new(format!("calls/{name}"), COUNTS);
        let probes: Vec<_> = names.iter().map(probe).collect();
        let instructions = names.iter().cloned().zip(instructions(&probes)).collect();
        let told =
            |name: &&String| !effort.counts_only || name.ends_with("bare") || name.ends_with("offload");
        let names: Vec<_> = names.iter().filter(told).cloned().collect();
        let probes: Vec<_> = names.iter().map(probe).collect();
        Self { instructions, heap: names.into_iter().zip(heap(&probes)).collect() }
    }

    /// Instructions and allocations over those of the bare service.
    fn added(&self, work: Work, variant: &str) -> (f64, f64) {
        let bare = match variant.strip_suffix(TRACED) {
            Some(_) => "bare+span",
            None => VARIANTS.iter().find(|(name, _)| *name == variant).map_or(variant, |(_, bare)| bare),
        };
        let [name, bare] = [variant, bare].map(|name| format!("{}/{name}", work.name()));
        let allocations = |name| self.heap.get(name).map_or(f64::NAN, |heap| heap.allocations);
        let allocations = allocations(&name) - allocations(&bare);
        (self.instructions[&name] - self.instructions[&bare], allocations)
    }

    fn tell(&self, report: &mut Report, work: Work, effort: &Effort) {
        for size in &SIZES {
            self.tell_size(report, work, size);
        }
        if effort.counts_only {
            return;
        }
        let name = work.name();
        let title = |variant| format!("{name}: {}", title(variant));
        let (timeout, _) = self.added(work, "timeout");
        let sized = |variant: &str| SIZES.iter().any(|size| size.offload == variant);
        let others = VARIANTS.iter().filter(|(variant, bare)| variant != bare && !sized(variant));
        let traced = ["offload+span", "offload-disconnect+span"];
        for variant in others.map(|(name, _)| *name).chain(traced) {
            let (added, allocations) = self.added(work, variant);
            let what = format!("{}: instructions added", title(variant));
            report.against(what, added, (timeout, "tower::timeout"), None);
            report.fact("  allocations added", format!("{allocations:.2}"));
        }
    }

    /// What the layer adds to a call whose future has this size, against `tower::timeout` and a task for each call.
    fn tell_size(&self, report: &mut Report, work: Work, size: &Size) {
        let name = work.name();
        let (timeout, _) = self.added(work, size.timeout);
        let (spawn, _) = self.added(work, size.spawn);
        let (ours, allocations) = self.added(work, size.offload);
        let [ready, once] = size.most;
        let goal = if work == Work::Ready { ready } else { once };
        report.fact(
            format!("{name}: {} future: instructions of the bare service", size.name),
            format!("{:.0}", self.instructions[&format!("{name}/{}", size.bare)]),
        );
        let what = format!("{name}: {} future: instructions that OffloadLayer adds", size.name);
        report.against(what, ours, (timeout, "tower::timeout"), Some(goal));
        let goal = (work == Work::Ready).then_some(0.15);
        report.against("  the same", ours, (spawn, "a task for each call"), goal);
        report.most("  allocations added", allocations, 1.0, "");
        if work == Work::Once {
            let (_, ready) = self.added(Work::Ready, size.offload);
            report.most("  allocations more than of one that is ready", allocations - ready, 0.0, "");
        }
    }
}

/// A size of futures, and the variants that have it.
struct Size {
    name: &'static str,
    bare: &'static str,
    timeout: &'static str,
    spawn: &'static str,
    offload: &'static str,
    /// The goals: so many times what `tower::timeout` adds, ready and once.
    most: [f64; 2],
}

impl Size {
    const fn variants(&self) -> [&'static str; 4] {
        [self.bare, self.timeout, self.spawn, self.offload]
    }
}

/// What the compiler inlines costs `tower::timeout` next to nothing, and the layer its allocation: the smallest future is
/// the worst case of the layer.
const SIZES: [Size; 3] = [
    Size {
        name: "16 B",
        bare: "small-bare",
        timeout: "small-timeout",
        spawn: "small-spawn",
        offload: "small-offload",
        most: [1.5, 1.2],
    },
    Size {
        name: "256 B",
        bare: "bare",
        timeout: "timeout",
        spawn: "spawn",
        offload: "offload",
        most: [0.35, 0.7],
    },
    Size {
        name: "2 KiB",
        bare: "large-bare",
        timeout: "large-timeout",
        spawn: "large-spawn",
        offload: "large-offload",
        most: [0.35, 0.65],
    },
];
