//! Very many calls of all kinds: memory must stay where it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tower::{Layer, Service, service_fn};
use tower_offload::task::Scope;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};

use super::{Kept, MIB, Work, manager, user};
use crate::effort::Effort;
use crate::measure::child::{self, tell};
use crate::measure::process::resident;
use crate::measure::runtime::two_workers;
use crate::report::{Report, grouped, time};

/// How often memory is looked at.
const LOOKS: u64 = 10;
const THREADS: u64 = 2;
/// Of so many calls one moves to the background.
const OFFLOADED: u64 = 100;

static MOVED: AtomicU64 = AtomicU64::new(0);

pub(super) fn probe(count: u64) {
    let runtime = two_workers();
    let manager = manager();
    let begun = Instant::now();
    for look in 1..=LOOKS {
        runtime.block_on(async {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let first = (look * THREADS + thread) << 32;
                    let calls = calls(manager.clone(), first, count / LOOKS / THREADS);
                    tokio::spawn(tokio::task::coop::unconstrained(calls))
                })
                .collect();
            for thread in threads {
                thread.await.unwrap_or_else(|error| panic!("{error}"));
            }
            while manager.stats().active > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        tell(&format!("resident-{look}"), resident() as f64);
    }
    let stats = manager.stats();
    tell("took", begun.elapsed().as_secs_f64());
    tell("moved", MOVED.load(Ordering::Relaxed) as f64);
    tell("admitted", stats.admitted as f64);
    tell("ended", (stats.completed + stats.failed + stats.cancelled) as f64);
    tell("cancelled", stats.cancelled as f64);
}

async fn calls(manager: TaskManager, first: u64, calls: u64) {
    let mut service = OffloadLayer::new(manager.clone(), Duration::ZERO)
        .describe(|number: &u64| Some(Kept(*number)))
        .respond(|task: &TaskRecord| task.id.to_string())
        .layer(service_fn(work));
    let mut patient = OffloadLayer::new(manager.clone(), Duration::from_secs(60))
        .describe(|number: &u64| Some(Kept(*number)))
        .respond(|task: &TaskRecord| task.id.to_string())
        .layer(service_fn(work));
    for number in first..first + calls {
        // Every second one of them is pending once, and in time.
        if !number.is_multiple_of(OFFLOADED) {
            let Ok(answer) = patient.call(number).await;
            std::hint::black_box(answer);
            continue;
        }
        let Ok(id) = service.call(number).await;
        MOVED.fetch_add(1, Ordering::Relaxed);
        if runs_for_ever(number) {
            let scope = Scope::user(user(number));
            let id = id.parse().expect("the placeholder is the id of the task");
            let stopped = manager.stop(&scope, id).await.expect("it is one process");
            std::hint::black_box(stopped);
        }
    }
}

/// One of four that move, until it is stopped.
const fn runs_for_ever(number: u64) -> bool {
    number.is_multiple_of(4 * OFFLOADED)
}

/// Pending once. A `yield_now` has the runtime ask the kernel for news first.
async fn once() {
    let mut is_over = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn work(number: u64) -> Work {
    Box::pin(async move {
        if number.is_multiple_of(OFFLOADED) && runs_for_ever(number) {
            std::future::pending::<()>().await;
        } else if number.is_multiple_of(2) {
            once().await;
        }
        // Answers of all lengths.
        Ok("x".repeat((number % 200) as usize))
    })
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    let calls = effort.soak;
    let told = child::run("scale/soak", calls);
    let memory: Vec<_> = (1..=LOOKS).map(|look| told[&format!("resident-{look}")]).collect();
    let shown: Vec<_> = memory.iter().map(|bytes| format!("{:.1}", bytes / MIB)).collect();
    let took = Duration::from_secs_f64(told["took"]);
    let many = grouped(calls as f64);
    report.fact(format!("{many} calls by two tasks"), time(took));
    report.fact("  of them moved to the background", grouped(told["moved"]));
    report.fact("  of them stopped", grouped(told["cancelled"]));
    report.most("  not ended", told["moved"] - told["ended"], 0.0, "");
    let growth = (memory[LOOKS as usize - 1] - memory[1]) / MIB;
    let most = memory[1] / MIB * 0.01 + 1.0;
    report.most(
        "  more memory at the end than after a fifth",
        growth.max(0.0),
        (most * 100.0).round() / 100.0,
        " MiB",
    );
    report.note(format!("MiB after each tenth of {many} calls"), shown.join(", "));
}
