//! What the kernel knows of this process.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The time that all threads have been running so far, in the kernel too.
pub(crate) fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it is Linux");
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// One thread.
pub(crate) struct Thread(PathBuf);

impl Thread {
    pub(crate) fn current() -> Self {
        let name = std::fs::read_link("/proc/thread-self").expect("it is Linux");
        Self(PathBuf::from("/proc").join(name).join("schedstat"))
    }

    /// The time that it has been running so far, in the kernel too. Asked while it sleeps.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(&self.0).expect("the kernel counts it");
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("it begins with a number"))
    }
}

/// Bytes of memory that are really there.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0, |kib: u64| kib << 10)
}
