use std::time::SystemTime;

use crate::bus::BusHealth;

/// Whether a [`TaskManager`](crate::TaskManager) can reach those it shares its tasks with, and what waits until it can.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagerHealth {
    /// The connection.
    pub bus: BusHealth,
    /// Tasks of this process whose last change other processes cannot see yet.
    pub waiting_records: usize,
    /// Ended tasks whose result is not delivered yet.
    pub waiting_results: usize,
    /// Since when a change was always waiting to be written; `None` when none waits.
    pub waiting_since: Option<SystemTime>,
}

impl TaskManagerHealth {
    /// Whether the bus is there and nothing waits for it.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.bus.connected && self.waiting_records == 0
    }
}
