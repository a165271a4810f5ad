//! Where the figures come from: the machine, and the versions of what was measured.

use std::process::Command;

/// Crates whose code is in the figures.
const CRATES: &[&str] = &["tokio", "tower", "tower-http", "axum", "hyper", "redis", "tracing"];

pub(super) fn describe() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    let crates: Vec<_> = CRATES.iter().map(|name| format!("{name} {}", locked(name))).collect();
    format!(
        "\n## Machine and versions\n\n- {cpu}, {cores} cores that others use too; load average at the end: {}\n\
         - Linux {}\n- {}; {}\n- {}\n- {}\n",
        load.join(", "),
        line("uname", &["-rm"]),
        line("rustc", &["--version"]),
        line("valgrind", &["--version"]),
        crates.join(", "),
        // The last word is a fingerprint of the build.
        line("redis-server", &["--version"]).split(" sha=").next().unwrap_or_default(),
    )
}

/// The version that was built, as Cargo.lock has it.
fn locked(name: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let mark = format!("name = \"{name}\"\nversion = \"");
    let version = lock.split_once(&mark).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

/// The first line that a command writes.
fn line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or(program).to_owned()
}
