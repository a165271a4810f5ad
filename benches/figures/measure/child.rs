//! This program once more, for what needs a process of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

pub(crate) fn myself() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}

/// Runs a probe in a process of its own, and answers what it [told](tell).
pub(crate) fn run(probe: &str, count: u64) -> BTreeMap<String, f64> {
    let mut command = Command::new(myself());
    command.args(["--probe", probe, &count.to_string()]);
    let output = finished(&mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    values.collect()
}

/// Tells the parent something.
pub(crate) fn tell(name: &str, value: f64) {
    println!("{name} {value}");
}

/// What a command has written, if it went well.
pub(crate) fn finished(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output
}
