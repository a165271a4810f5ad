//! Times that are compared within one run, and what the middle of several is.

use std::time::Duration;

/// Pairs of times, ours and the one it is compared to, each pair of one round.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    name: &'static str,
    pairs: Vec<(Duration, Duration)>,
}

impl Rounds {
    /// `name` is what ours is compared to.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, pairs: Vec::new() }
    }

    pub(crate) fn push(&mut self, ours: Duration, theirs: Duration) {
        self.pairs.push((ours, theirs));
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn ours(&self) -> Duration {
        median(self.pairs.iter().map(|(ours, _)| *ours))
    }

    pub(super) fn theirs(&self) -> Duration {
        median(self.pairs.iter().map(|(_, theirs)| *theirs))
    }

    /// The other way round.
    pub(super) fn inverse(&self) -> Self {
        Self { name: self.name, pairs: self.pairs.iter().map(|(ours, theirs)| (*theirs, *ours)).collect() }
    }

    /// The ratio, with the best round and the worst one.
    pub(super) fn shown(&self) -> String {
        let ratios = self.ratios();
        let median = ratios[ratios.len() / 2];
        format!("{median:.2} ({:.2} to {:.2})", ratios[0], ratios[ratios.len() - 1])
    }

    fn ratios(&self) -> Vec<f64> {
        let ratios = self.pairs.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64());
        let mut ratios: Vec<_> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }
}

pub(crate) fn median(times: impl Iterator<Item = Duration>) -> Duration {
    percentile(times, 50.0)
}

/// The time that so many in a hundred do not exceed.
pub(crate) fn percentile(times: impl Iterator<Item = Duration>, percent: f64) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times[((times.len() as f64 * percent / 100.0) as usize).min(times.len() - 1)]
}
