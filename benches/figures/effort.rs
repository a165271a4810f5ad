//! How much is measured: everything, or only the counts that have a goal, as tests/all.sh does.

#[derive(Debug)]
pub(crate) struct Effort {
    /// No times: only counts, which are the same on a busy machine.
    pub(crate) counts_only: bool,
    /// Rounds of a comparison of times, in each of which its sides take turns.
    pub(crate) rounds: usize,
    /// Sizes of the table, the smallest first.
    pub(crate) tables: &'static [usize],
    /// Other tasks while a list is read over HTTP.
    pub(crate) others: &'static [usize],
    /// Offloaded calls at once.
    pub(crate) at_once: u64,
    /// Calls of the soak.
    pub(crate) soak: u64,
    pub(crate) redis: Redis,
}

/// The part of it that is about Redis.
#[derive(Debug)]
pub(crate) struct Redis {
    /// Rounds, in each of which ours and what it is compared to take turns; one more warms up.
    pub(crate) rounds: usize,
    /// Offloads at once.
    pub(crate) offloads: usize,
    /// Reads in a round.
    pub(crate) reads: usize,
    pub(crate) stops: usize,
}

pub(crate) const FULL: Effort = Effort {
    counts_only: false,
    rounds: 21,
    tables: &[1_000, 100_000, 1_000_000],
    others: &[10_000, 1_000_000],
    at_once: 1_000_000,
    soak: 100_000_000,
    redis: Redis { rounds: 9, offloads: 10_000, reads: 300, stops: 500 },
};

pub(crate) const COUNTS: Effort = Effort {
    counts_only: true,
    rounds: 9,
    tables: &[1_000, 100_000],
    others: &[10_000],
    at_once: 100_000,
    soak: 1_000_000,
    redis: Redis { rounds: 7, offloads: 2_000, reads: 50, stops: 100 },
};
