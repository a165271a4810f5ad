//! Bytes for each task: of one that runs, and of one that has ended and is kept.
//!
//! Live bytes by dhat, and of a million by what the kernel says. What belongs to the task's own texts is counted by
//! making the descriptions alone; what tokio takes for any task, by spawning the same future without a manager.

use std::future::pending;
use std::hint::black_box;
use std::time::Duration;

use tower::{Layer, Service, service_fn};
use tower_offload::offload::OffloadCall;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

use crate::effort::Effort;
use crate::measure::child;
use crate::measure::process::resident;
use crate::measure::runtime::{TURN, current_thread};
use crate::measure::valgrind::{Counted, heap};
use crate::report::Report;

/// Just below powers of two.
const COUNTS: [u64; 2] = [8_000, 16_000];
const MANY: u64 = 1_000_000;

const USERS: u64 = 100;

/// What a call holds while it waits.
const HELD: usize = 256;

const VARIANTS: [&str; 5] = ["meta", "spawn", "retained", "running", "registered"];

#[derive(Clone, Copy)]
struct Kept(u64);

impl OffloadCall for Kept {
    fn meta(&self) -> TaskMeta {
        let Self(number) = self;
        TaskMeta::new(format!("user-{}", number % USERS), "Bash")
            .with_session(format!("session-{}", number % USERS))
            .with_summary(format!("Bash(command=cargo test --{number:06})"))
    }
}

/// The future of every call: it waits, and holds something meanwhile.
async fn work(ends: bool) -> Result<u64, std::convert::Infallible> {
    let held = black_box([1_u8; HELD]);
    if ends {
        tokio::task::yield_now().await;
    } else {
        pending::<()>().await;
    }
    black_box(&held);
    Ok(0)
}

fn size_of_work() -> usize {
    size_of_val(&work(false))
}

pub(crate) fn probe(name: &str, count: u64) -> bool {
    if !VARIANTS.contains(&name) {
        return false;
    }
    let runtime = current_thread();
    let manager = TaskManager::builder()
        .max_running(u32::MAX / 2)
        .max_running_per_user(u32::MAX / 2)
        .max_retained(u32::MAX / 2)
        .max_retained_per_user(u32::MAX / 2)
        .retain_for(None)
        .build();
    let ends = name == "retained";
    let mut service = OffloadLayer::new(manager.clone(), Duration::ZERO)
        .describe(|number: &u64| Some(Kept(*number)))
        .respond(|_: &TaskRecord| 0)
        .layer(service_fn(move |_: u64| work(ends)));
    let before = resident();
    runtime.block_on(async {
        for number in 0..count {
            match name {
                "meta" => std::mem::forget(black_box(Kept(number).meta())),
                "spawn" => drop(tokio::spawn(work(false))),
                "registered" => {
                    let work = async {
                        let Ok(_) = work(false).await;
                    };
                    assert!(manager.spawn(Kept(number).meta(), work).is_ok());
                }
                _ => assert!(service.call(number).await.is_ok()),
            }
            if number % TURN as u64 == TURN as u64 - 1 {
                tokio::task::yield_now().await;
            }
        }
        while ends && manager.stats().running > 0 {
            tokio::task::yield_now().await;
        }
        child::tell("resident", resident().saturating_sub(before) as f64);
        // With everything as it is: what is there at the end is what is counted.
        std::process::exit(0)
    })
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    let probes = VARIANTS.map(|name| Counted::new(format!("memory/{name}"), COUNTS));
    let live: Vec<_> = heap(&probes).iter().map(|heap| heap.live).collect();
    let [meta, spawn, retained, running, registered] = *live else { return };
    let future = size_of_work() as f64;
    report.most("a retained task, without its own texts", retained - meta, 200.0, " B");
    report.fact("  its own texts", format!("{meta:.0} B"));
    // What the describer answers.
    let kept = size_of::<Option<Kept>>() as f64;
    let more = running - retained - future - kept;
    report.most(
        "an offloaded call that runs, beyond that, its future and its description",
        more,
        200.0,
        " B",
    );
    report.fact("  its future", format!("{future:.0} B"));
    report.fact("  what the describer has kept of it", format!("{kept:.0} B"));
    report.fact("  all of it", format!("{running:.0} B"));
    report.fact("  a future given to TaskManager::register, beyond its own", {
        format!("{:.0} B", registered - retained - future)
    });
    report.fact("tokio::spawn of the same future, beyond the future", format!("{:.0} B", spawn - future));
    if effort.counts_only {
        return;
    }
    for name in VARIANTS {
        let resident = child::run(&format!("memory/{name}"), MANY)["resident"];
        let what = match name {
            "meta" => "the texts alone",
            "spawn" => "tokio::spawn of the same future",
            "retained" => "retained",
            "running" => "offloaded calls that run",
            _ => "registered futures that run",
        };
        report.fact(
            format!("a million, by the kernel: {what}"),
            format!("{:.0} B each", resident / MANY as f64),
        );
    }
}
