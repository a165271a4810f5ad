//! Counts of instructions and allocations. They say the same on a busy machine.
//!
//! A probe runs twice, with two counts of the same thing, and the difference is divided by that of the counts: what
//! the process does before and after drops out. No allocator of our own is needed, and no unsafe code.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::{finished, myself};

/// A probe, and the two counts with which it runs.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) probe: String,
    pub(crate) counts: [u64; 2],
}

impl Counted {
    pub(crate) fn new(probe: impl Into<String>, counts: [u64; 2]) -> Self {
        Self { probe: probe.into(), counts }
    }
}

/// Of one operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heap {
    pub(crate) allocations: f64,
    /// Bytes that are there when the probe ends.
    pub(crate) live: f64,
}

/// Instructions of one operation of each probe.
pub(crate) fn instructions(probes: &[Counted]) -> Vec<f64> {
    let output = run(probes, &["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    per_operation(probes, &output, |text| [number_after(text, "Collected :"), 0.0])
        .map(|[instructions, _]| instructions)
        .collect()
}

/// What one operation of each probe takes from the heap.
pub(crate) fn heap(probes: &[Counted]) -> Vec<Heap> {
    let output = run(probes, &["--tool=dhat", "--dhat-out-file=/dev/null"]);
    let counts = |text: &str| [number_after(text, "bytes in"), number_after(text, "At t-end:")];
    per_operation(probes, &output, counts).map(|[allocations, live]| Heap { allocations, live }).collect()
}

fn per_operation(
    probes: &[Counted],
    output: &[String],
    counts: impl Fn(&str) -> [f64; 2],
) -> impl Iterator<Item = [f64; 2]> {
    probes.iter().zip(output.chunks(2)).map(move |(probe, output)| {
        let [few, many] = [0, 1].map(|run| counts(&output[run]));
        let operations = (probe.counts[1] - probe.counts[0]) as f64;
        [0, 1].map(|what| (many[what] - few[what]) / operations)
    })
}

/// What valgrind wrote about each probe with its first count and with its second. Two run at a time.
fn run(probes: &[Counted], tool: &[&str]) -> Vec<String> {
    let runs: Vec<_> =
        probes.iter().flat_map(|probe| probe.counts.map(|count| (&*probe.probe, count))).collect();
    let next = AtomicUsize::new(0);
    let written = Mutex::new(vec![String::new(); runs.len()]);
    let work = || {
        while let Some((index, (probe, count))) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            runs.get(index).map(|run| (index, run))
        } {
            let mut command = Command::new("valgrind");
            command.args(tool).arg(myself()).args(["--probe", probe, &count.to_string()]);
            let errors = finished(&mut command).stderr;
            written.lock().expect("nobody panicked")[index] = String::from_utf8_lossy(&errors).into_owned();
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work();
        other.join().expect("valgrind runs");
    });
    written.into_inner().expect("nobody panicked")
}

/// The number behind the first `mark`.
fn number_after(text: &str, mark: &str) -> f64 {
    let rest = text.find(mark).map(|at| &text[at + mark.len()..]);
    let digits: Option<String> = rest.map(|rest| {
        let number = rest.trim_start().chars();
        number.filter(|digit| *digit != ',').take_while(char::is_ascii_digit).collect()
    });
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no number after {mark:?} in:\n{text}"))
}
