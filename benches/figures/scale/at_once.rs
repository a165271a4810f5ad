//! Very many offloaded calls that run at once: what each takes, whether reads suffer, and that each is delivered.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tower::{Layer, Service, service_fn};
use tower_offload::manager::Ended;
use tower_offload::task::Scope;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};

use super::{Kept, manager};
use crate::effort::Effort;
use crate::measure::child::{self, tell};
use crate::measure::process::resident;
use crate::measure::runtime::two_workers;
use crate::report::{Report, grouped, median, time};

const ALICE: &str = "alice";
const LISTED: usize = 50;
const READS: usize = 500;

pub(super) fn probe(count: u64) {
    let runtime = two_workers();
    let manager = manager();
    let empty = self::manager();
    let before = resident();
    runtime.block_on(async {
        let gate = Arc::new(Semaphore::new(0));
        let delivered = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&delivered);
        let waiting = Arc::clone(&gate);
        let mut service = OffloadLayer::new(manager.clone(), Duration::ZERO)
            .describe(|number: &u64| Some(Kept(*number)))
            .respond(|_: &TaskRecord| 0)
            .deliver(move |task: TaskRecord, ended: Ended<Result<u64, Infallible>>| {
                let counts = ended.returned().is_some() && task.completed_at.is_some();
                counting.fetch_add(u64::from(counts), Ordering::Relaxed);
                async { Ok(()) }
            })
            .layer(service_fn(move |number: u64| {
                let gate = Arc::clone(&waiting);
                async move {
                    drop(gate.acquire().await);
                    Ok::<_, Infallible>(number)
                }
            }));
        let begun = Instant::now();
        for number in 0..count {
            assert!(service.call(number).await.is_ok());
        }
        tell("begun", begun.elapsed().as_secs_f64());
        assert_eq!(manager.stats().running as u64, count);
        tell("resident", resident().saturating_sub(before) as f64 / count as f64);

        for manager in [&manager, &empty] {
            for _ in 0..LISTED {
                let meta = tower_offload::TaskMeta::new(ALICE, "Bash");
                assert!(manager.spawn(meta, std::future::pending::<()>()).is_ok());
            }
        }
        for (name, manager) in [("many", &manager), ("alone", &empty)] {
            let (list, get) = reads(manager).await;
            tell(&format!("list-{name}"), list.as_secs_f64());
            tell(&format!("get-{name}"), get.as_secs_f64());
        }

        let begun = Instant::now();
        gate.close();
        while delivered.load(Ordering::Relaxed) < count && begun.elapsed() < Duration::from_secs(120) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tell("ended", begun.elapsed().as_secs_f64());
        tell("delivered", delivered.load(Ordering::Relaxed) as f64);
        tell("completed", manager.stats().completed as f64);
    });
}

/// The median of lists and of gets.
async fn reads(manager: &TaskManager) -> (Duration, Duration) {
    let alice = Scope::user(ALICE);
    let (mut lists, mut gets) = (Vec::new(), Vec::new());
    for number in 0..READS {
        let begun = Instant::now();
        let tasks = manager.list(&alice).await.expect("it is one process");
        lists.push(begun.elapsed());
        assert_eq!(tasks.len(), LISTED);
        let id = tasks[number % LISTED].id;
        let begun = Instant::now();
        assert!(manager.get(&alice, id).await.is_ok_and(|task| task.is_some()));
        gets.push(begun.elapsed());
    }
    (median(lists.into_iter()), median(gets.into_iter()))
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    let count = effort.at_once;
    let told = child::run("scale/at_once", count);
    let many = grouped(count as f64);
    let secs = |name: &str| Duration::from_secs_f64(told[name]);
    let rate = |name: &str| format!("{}, {}/s", time(secs(name)), grouped(count as f64 / told[name]));
    report.fact(format!("{many} offloaded calls at once, until all run"), rate("begun"));
    report.fact("  resident memory of each", format!("{:.0} B", told["resident"]));
    for (read, what) in [("list", "  list of a user's 50"), ("get", "  get")] {
        let [ours, theirs] = ["many", "alone"].map(|which| secs(&format!("{read}-{which}")));
        let alone = format!("{} (no others)", time(theirs));
        report.fact(what, format!("{}; {alone}", time(ours)));
    }
    report.fact("  from the first end to the last delivery", rate("ended"));
    report.most("  not delivered", count as f64 - told["delivered"], 0.0, "");
    report.most("  not completed", count as f64 - told["completed"], 0.0, "");
}
