use crate::task::TaskStatus;

/// What a [`TaskManager`](super::TaskManager) holds now and has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagerStats {
    /// Tasks that run now. Those that are stopping count, and those whose end other processes cannot see yet.
    pub running: usize,
    /// Finished tasks whose record is still there.
    pub retained: usize,
    /// Bytes of results that are kept: those that can be read, and those of ends that other processes cannot see yet.
    pub result_bytes: usize,
    /// Tasks whose future, publication or delivery has not ended: what [`shutdown`](super::TaskManager::shutdown) waits for.
    pub active: usize,
    /// Tasks admitted so far.
    pub admitted: u64,
    /// Calls that were not admitted, because of a limit or a shutdown.
    pub refused: u64,
    /// Tasks that completed.
    pub completed: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Attempts to end a task that had ended: they changed nothing.
    pub late: u64,
    /// Results that were not kept, or dropped before their record, because of the limits on bytes.
    pub results_dropped: u64,
    /// Deliveries that ended in an error or a panic, at their time limit, by a shutdown, or with their runtime. Those
    /// of ends that other processes cannot see yet do not count yet.
    pub undelivered: u64,
}

/// The counting part, behind the mutex of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) late: u64,
    pub(super) results_dropped: u64,
    pub(super) undelivered: u64,
}

impl Counters {
    pub(super) const fn settled(&mut self, status: TaskStatus) {
        match status {
            TaskStatus::Running => {}
            TaskStatus::Completed => self.completed += 1,
            TaskStatus::Failed => self.failed += 1,
            TaskStatus::Cancelled => self.cancelled += 1,
        }
    }
}
