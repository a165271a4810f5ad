//! How fast the crate is, and how much memory it takes, against what people use today and against itself at other sizes.
//!
//! ```sh
//! cargo bench --features full --bench figures                        # all parts
//! cargo bench --features full --bench figures -- --write             # and writes benches/RESULTS.md
//! cargo bench --features full --bench figures -- --counts            # only counts, as tests/all.sh runs it
//! cargo bench --features full --bench figures -- calls http          # some parts
//! cargo bench --features full --bench figures -- --list              # which there are
//! ```
//!
//! Valgrind counts instructions and allocations: it runs this program again with `--probe NAME COUNT`. The program fails when
//! a count misses its goal. No time and no rate has a goal, because those belong to the machine. Each part is a module with
//! an `about.md`, which is its text in the results.

mod calls;
mod effort;
mod hand_over;
mod http;
mod measure;
mod memory;
mod parts;
mod redis;
mod report;
mod router;
mod scale;
mod table;

use std::process::ExitCode;

use self::effort::{COUNTS, FULL};
use self::parts::{PARTS, Part};
use self::report::Report;

const USAGE: &str = "usage: figures [--counts | --write] [PART...] | --list | --probe NAME COUNT";

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &*arguments {
        ["--list"] => {
            for part in PARTS {
                println!("{:<10} {}", part.name, part.what);
            }
            ExitCode::SUCCESS
        }
        ["--probe", name, count] => match count.parse() {
            Ok(count) if parts::probe(name, count) => ExitCode::SUCCESS,
            _ => usage(&format!("there is no probe {name} {count}")),
        },
        arguments => figures(arguments),
    }
}

fn figures(arguments: &[&str]) -> ExitCode {
    let (options, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    let (effort, write) = match &*options {
        [] => (&FULL, false),
        ["--counts"] => (&COUNTS, false),
        ["--write"] if names.is_empty() => (&FULL, true),
        _ => return usage(""),
    };
    if let Some(unknown) = names.iter().find(|name| !PARTS.iter().any(|part| part.is(name))) {
        return usage(&format!("there is no part {unknown}"));
    }
    let mut report = Report::default();
    let wanted = |part: &&Part| names.is_empty() || names.iter().any(|name| part.is(name));
    for part in PARTS.iter().filter(wanted).filter(|part| part.counts || !effort.counts_only) {
        report.begin(part);
        (part.measure)(&mut report, effort);
        report.end();
    }
    if write {
        report.write();
    }
    match report.missed() {
        [] => ExitCode::SUCCESS,
        missed => {
            println!("\nmissed goals: {}", missed.len());
            missed.iter().for_each(|missed| println!("- {missed}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(trouble: &str) -> ExitCode {
    eprintln!("{trouble}\n{USAGE}");
    ExitCode::from(2)
}
