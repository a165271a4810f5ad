use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses that double, so that a server that is down is not asked without end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row: half to all of its full length, so that those who lost a server
    /// together do not come back together.
    pub(super) fn pause(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        // Each `RandomState` has keys of its own, which is all the randomness that is needed.
        let random = RandomState::new().hash_one(failures) as u32;
        full / 2 + full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
        for (failures, full) in [(1, 50), (2, 100), (3, 200), (5, 800), (6, 1_000), (u32::MAX, 1_000)] {
            let full = Duration::from_millis(full);
            for _ in 0..100 {
                let pause = backoff.pause(failures);
                assert!(pause >= full / 2 && pause <= full, "{pause:?} after {failures}");
            }
        }
    }
}
