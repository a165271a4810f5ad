//! Times among a thousand tasks and among up to a million, which are in no cache.

use std::time::{Duration, Instant};

use super::crowd::{Crowd, Shape, State};
use super::operations::{self, Operation};
use crate::effort::Effort;
use crate::measure::runtime::current_thread;
use crate::report::{Report, Rounds, grouped};

const SHAPES: [Shape; 4] = [
    Shape { state: State::Retained, users: 100 },
    Shape { state: State::Retained, users: 1 },
    Shape { state: State::Running, users: 100 },
    Shape { state: State::Running, users: 1 },
];

/// One operation, by one thread or by two at once.
#[derive(Clone, Copy)]
struct Timed {
    operation: Operation,
    threads: usize,
}

impl Timed {
    /// What is timed among tasks of this shape.
    fn of(shape: Shape) -> Vec<Self> {
        let alone = |operation| Self { operation, threads: 1 };
        let mut all: Vec<_> = Operation::ALL.map(alone).into();
        if shape.state == State::Retained {
            all.extend([Operation::Register, Operation::Get].map(|operation| Self { operation, threads: 2 }));
        }
        all
    }

    /// The time of one of them, as long as all took together.
    fn run(self, crowd: &Crowd) -> Duration {
        let times = self.operation.times();
        let took = if self.threads == 1 {
            self.operation.run(crowd, times)
        } else {
            self.run_by_two(crowd, times / 2)
        };
        took / u32::try_from(times).unwrap_or(u32::MAX)
    }

    fn run_by_two(self, crowd: &Crowd, times: usize) -> Duration {
        let runtime = current_thread();
        let half = |runtime, first| match self.operation {
            Operation::Register => operations::register(crowd, runtime, times, first),
            _ => operations::get(crowd, times),
        };
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| half(&runtime, 1));
            half(&crowd.runtime, 0);
            other.join().expect("nobody panicked");
        });
        begun.elapsed()
    }
}

pub(super) fn measure(report: &mut Report, effort: &Effort) {
    for shape in SHAPES {
        let crowds: Vec<_> = effort.tables.iter().map(|&tasks| Crowd::new(tasks, shape)).collect();
        for timed in Timed::of(shape) {
            let mut all = vec![Rounds::new("among 1,000"); crowds.len()];
            for round in 0..=effort.rounds {
                let times: Vec<_> = crowds.iter().map(|crowd| timed.run(crowd)).collect();
                // The first round warms up.
                if round > 0 {
                    all.iter_mut().zip(&times).for_each(|(rounds, time)| rounds.push(*time, times[0]));
                }
            }
            for (crowd, rounds) in crowds.iter().zip(&all).skip(1) {
                let threads = if timed.threads == 1 { "" } else { ", by two threads" };
                let tasks = grouped(crowd.tasks as f64);
                let what = format!("{}{threads}, among {tasks} {shape}: time", timed.operation.title());
                report.ratio(what, rounds);
            }
        }
    }
}
