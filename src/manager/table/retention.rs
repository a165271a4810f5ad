//! What happens to a task after its end: how long its record and its result stay.

use std::sync::Arc;

use super::{Kind, Limits, Table, TaskResult};

/// How many records one call drops for their age at the most, so that nobody waits for a burst.
const BATCH: usize = 64;

impl Table {
    /// Puts an ended entry onto the lists of the finished, and drops what is now too much: of its own user the
    /// oldest by end, then of all users together.
    pub(super) fn retire(&mut self, limits: &Limits, index: u32) {
        self.done.push_back(&mut self.entries, Kind::Done, index);
        let user_id = Arc::clone(&self.entries[index].record.meta.user_id);
        if let Some(user) = self.users.get_mut(&user_id) {
            user.done.push_back(&mut self.entries, Kind::UserDone, index);
        }
        while let Some(oldest) = self.users.get(&user_id).and_then(|user| {
            (user.done.len() > limits.max_retained_per_user).then(|| user.done.first()).flatten()
        }) {
            self.remove(oldest);
        }
        while self.done.len() > limits.max_retained {
            let Some(oldest) = self.done.first() else { break };
            self.remove(oldest);
        }
    }

    /// Drops some of what ended before `limits.retain_for` ago, and answers when the next one is due, which may be
    /// now.
    pub(in crate::manager) fn expire(&mut self, limits: &Limits, clock: u64) -> Option<u64> {
        let keep = u64::try_from(limits.retain_for?.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..BATCH {
            let oldest = self.done.first()?;
            let due = self.entries[oldest].ended_at.saturating_add(keep);
            if due > clock {
                return Some(due);
            }
            self.remove(oldest);
        }
        self.done.first().map(|oldest| self.entries[oldest].ended_at.saturating_add(keep))
    }

    /// Keeps a result if it fits. Older results of the same user make room if that is enough; the results of
    /// others stay.
    pub(super) fn store_result(&mut self, limits: &Limits, index: u32, result: TaskResult) {
        let len = result.len();
        let user_id = Arc::clone(&self.entries[index].record.meta.user_id);
        let own = self.users.get(&user_id).map_or(0, |user| user.result_bytes);
        let others = self.result_bytes - own;
        let room = limits.max_result_bytes.saturating_sub(others).min(limits.max_result_bytes_per_user);
        if len > limits.max_result_bytes_per_task || len > room {
            self.counters.results_dropped += 1;
            return;
        }
        while let Some(oldest) = self
            .users
            .get(&user_id)
            .and_then(|user| (user.result_bytes + len > room).then(|| user.results.first()).flatten())
        {
            self.forget_result(oldest);
            self.counters.results_dropped += 1;
        }
        self.result_bytes += len;
        self.entries[index].result = Some(result);
        if let Some(user) = self.users.get_mut(&user_id) {
            user.result_bytes += len;
            user.results.push_back(&mut self.entries, Kind::Results, index);
        }
    }

    /// Drops the result of a task, if there is one.
    pub(super) fn forget_result(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        let Some(result) = entry.result.take() else { return };
        let user_id = Arc::clone(&entry.record.meta.user_id);
        self.result_bytes -= result.len();
        if let Some(user) = self.users.get_mut(&user_id) {
            user.result_bytes -= result.len();
            user.results.unlink(&mut self.entries, Kind::Results, index);
        }
    }
}
