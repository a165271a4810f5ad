//! Calls to the kernel, where `strace` is there and may be used.

use std::process::Command;

use super::child::myself;
use super::valgrind::Counted;

/// Calls to the kernel for one operation of a probe.
pub(crate) fn syscalls(probe: &Counted) -> Option<f64> {
    let [few, many] = probe.counts.map(|count| total(&probe.probe, count));
    Some((many? - few?) / (probe.counts[1] - probe.counts[0]) as f64)
}

fn total(probe: &str, count: u64) -> Option<f64> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name"]).arg(myself());
    let output = command.args(["--probe", probe, &count.to_string()]).output().ok()?;
    let table = String::from_utf8_lossy(&output.stderr);
    let total = table.lines().rev().find_map(|line| line.trim().strip_suffix("total"))?;
    total.trim().parse().ok()
}
