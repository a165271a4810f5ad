//! The parts, in the order of the results.

use crate::effort::Effort;
use crate::report::Report;
use crate::{calls, hand_over, http, memory, redis, router, scale, table};

pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// What else picks it: the name of several together.
    group: &'static str,
    pub(crate) what: &'static str,
    /// How it is measured, for the results. Empty: as the part before it.
    pub(crate) about: &'static str,
    /// Whether any of its figures is a count.
    pub(crate) counts: bool,
    pub(crate) measure: fn(&mut Report, &Effort),
}

impl Part {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name || self.group == name
    }
}

pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "calls",
        group: "",
        what: "one call through a service that never moves",
        about: include_str!("calls/about.md"),
        counts: true,
        measure: calls::measure,
    },
    Part {
        name: "router",
        group: "",
        what: "the same through an axum router",
        about: include_str!("router/about.md"),
        counts: true,
        measure: router::measure,
    },
    Part {
        name: "hand_over",
        group: "",
        what: "one call that moves to the background, from its start to its end",
        about: include_str!("hand_over/about.md"),
        counts: true,
        measure: hand_over::measure,
    },
    Part {
        name: "table",
        group: "",
        what: "the task manager among up to a million tasks",
        about: include_str!("table/about.md"),
        counts: true,
        measure: table::measure,
    },
    Part {
        name: "memory",
        group: "",
        what: "bytes for each task that runs or is retained",
        about: include_str!("memory/about.md"),
        counts: true,
        measure: memory::measure,
    },
    Part {
        name: "http",
        group: "",
        what: "GET /background-tasks against the same bytes from memory",
        about: include_str!("http/about.md"),
        counts: true,
        measure: http::measure,
    },
    Part {
        name: "scale",
        group: "load",
        what: "a million offloaded calls at once",
        about: include_str!("scale/about.md"),
        counts: true,
        measure: scale::at_once::measure,
    },
    Part {
        name: "rate",
        group: "load",
        what: "calls in a second",
        about: "",
        counts: false,
        measure: scale::rate::measure,
    },
    Part {
        name: "soak",
        group: "load",
        what: "memory over a hundred million calls",
        about: "",
        counts: true,
        measure: scale::soak::measure,
    },
    Part {
        name: "trips",
        group: "redis",
        what: "Redis: round trips of one offloaded call",
        about: include_str!("redis/about.md"),
        counts: true,
        measure: redis::trips,
    },
    Part {
        name: "offloads",
        group: "redis",
        what: "Redis: many offloads at once",
        about: "",
        counts: false,
        measure: redis::offloads,
    },
    Part {
        name: "lists",
        group: "redis",
        what: "Redis: lists from another process",
        about: "",
        counts: false,
        measure: redis::lists,
    },
    Part {
        name: "stops",
        group: "redis",
        what: "Redis: stops from another process",
        about: "",
        counts: false,
        measure: redis::stops,
    },
];

/// Runs what valgrind counts, or what needs a process of its own. `name` is the part's name, then the part's own.
pub(crate) fn probe(name: &str, count: u64) -> bool {
    let Some((part, name)) = name.split_once('/') else { return false };
    match part {
        "calls" => calls::probe(name, count),
        "router" => router::probe(name, count),
        "hand_over" => hand_over::probe(name, count),
        "table" => table::probe(name, count),
        "memory" => memory::probe(name, count),
        "http" => http::probe(name, count),
        "scale" => scale::probe(name, count),
        _ => false,
    }
}
