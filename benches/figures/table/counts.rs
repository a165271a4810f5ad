//! Instructions among a thousand tasks and among ten thousand.

use super::crowd::{Crowd, Shape, State};
use super::operations::Operation;
use crate::measure::valgrind::{Counted, instructions};
use crate::report::Report;

const SIZES: [usize; 2] = [1_000, 10_000];

/// What is the same among more of them may differ by this.
const GOAL: f64 = 1.1;

/// `OPERATION/TASKS`.
pub(crate) fn probe(name: &str, count: u64) -> bool {
    let Some((name, tasks)) = name.split_once('/') else { return false };
    let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name);
    let (Some(operation), Ok(tasks)) = (operation, tasks.parse()) else { return false };
    operation.run(&Crowd::new(tasks, Shape { state: state(operation), users: 100 }), count as usize);
    true
}

/// Those that are stopped are among others that run.
fn state(operation: Operation) -> State {
    match operation {
        Operation::Stop | Operation::Cancel => State::Running,
        _ => State::Retained,
    }
}

pub(super) fn measure(report: &mut Report) {
    // So many that what differs from one start to the next, such as where the maps grow, is small against them.
    let counts = |operation| match operation {
        Operation::Get => [1_000, 21_000],
        Operation::Register | Operation::Stop => [1_000, 6_000],
        Operation::List | Operation::Session => [100, 2_100],
        Operation::Cancel => [50, 350],
    };
    let probe = |operation: Operation, tasks| {
        Counted::new(format!("table/{}/{tasks}", operation.name()), counts(operation))
    };
    let probes: Vec<_> =
        Operation::ALL.into_iter().flat_map(|operation| SIZES.map(|tasks| probe(operation, tasks))).collect();
    let instructions = instructions(&probes);
    for (operation, counted) in Operation::ALL.into_iter().zip(instructions.chunks(2)) {
        let ends = if state(operation) == State::Running { ", with beginning and end" } else { "" };
        let what =
            format!("{}{ends}, among 10,000 {}: instructions", operation.title(), shown(state(operation)));
        report.against(what, counted[1], (counted[0], "among 1,000"), Some(GOAL));
    }
}

const fn shown(state: State) -> &'static str {
    match state {
        State::Retained => "retained",
        State::Running => "running",
    }
}
