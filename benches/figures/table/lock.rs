//! How long the table can be kept from others: the time that a `get` takes on one thread while another one works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tower_offload::task::Scope;

use super::crowd::{Crowd, Shape, State};
use super::operations::Operation;
use crate::effort::Effort;
use crate::report::{Report, grouped, percentile, time};

/// How long each is looked at.
const TIME: Duration = Duration::from_secs(1);

pub(super) fn measure(report: &mut Report, effort: &Effort) {
    let tasks = effort.tables.last().copied().unwrap_or_default();
    let crowd = Crowd::new(tasks, Shape { state: State::Retained, users: 100 });
    let everything = Scope::user(std::sync::Arc::clone(&crowd.users[1]));
    let size = grouped((tasks / crowd.users.len()) as f64);
    let operation = |operation: Operation| {
        let crowd = &crowd;
        move || {
            let _ = operation.run(crowd, 50);
        }
    };
    let [register, list, stop, cancel] =
        [Operation::Register, Operation::List, Operation::Stop, Operation::Cancel].map(operation);
    let rest = || std::thread::sleep(Duration::from_millis(1));
    let lists = || drop(crowd.manager.list(&everything).now_or_never());
    let work: [(String, &(dyn Fn() + Sync)); 6] = [
        ("rests".into(), &rest),
        (Operation::Register.title().into(), &register),
        (Operation::List.title().into(), &list),
        (format!("list of a user's {size}"), &lists),
        (Operation::Stop.title().into(), &stop),
        (Operation::Cancel.title().into(), &cancel),
    ];
    for (what, work) in work {
        let all = meanwhile(&crowd, work);
        let [median, most] = [50.0, 99.9].map(|percent| percentile(all.iter().copied(), percent));
        let longest = all.iter().copied().max().unwrap_or_default();
        report.fact(
            format!("get, among {} retained, while another thread: {what}", grouped(tasks as f64)),
            format!("p50 {}, p99.9 {}, longest {}", time(median), time(most), time(longest)),
        );
    }
}

/// The times of all gets on this thread.
fn meanwhile(crowd: &Crowd, work: &(dyn Fn() + Sync)) -> Vec<Duration> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                work();
            }
        });
        let (begun, mut times) = (Instant::now(), Vec::with_capacity(1 << 23));
        for (scope, id) in crowd.ids.iter().cycle() {
            let asked = Instant::now();
            std::hint::black_box(crowd.manager.get(scope, *id).now_or_never());
            times.push(asked.elapsed());
            if begun.elapsed() > TIME {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        times
    })
}
