//! What happens to a task after its end: how long its record and its result stay.

use std::sync::Arc;

use super::{Kind, Limits, Table, TaskResult};

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

    /// Drops what ended before `limits.retain_for` ago, and answers when the next one is due.
    pub(in crate::manager) fn expire(&mut self, limits: &Limits, clock: u64) -> Option<u64> {
        let keep = u64::try_from(limits.retain_for?.as_millis()).unwrap_or(u64::MAX);
        loop {
            let oldest = self.done.first()?;
            let due = self.entries[oldest].ended_at.saturating_add(keep);
            if due > clock {
                return Some(due);
            }
            self.remove(oldest);
        }
    }

    /// Keeps a result if it fits. When all results together are too large, the oldest results of the same user
    /// make room; the results of others stay, and then this one is not kept.
    pub(super) fn store_result(&mut self, limits: &Limits, index: u32, result: TaskResult) {
        let len = result.len();
        let total = limits.max_result_bytes;
        if len > limits.max_result_bytes_per_task || len > total {
            self.counters.results_dropped += 1;
            return;
        }
        let user_id = Arc::clone(&self.entries[index].record.meta.user_id);
        if let Some(user) = self.users.get(&user_id) {
            let older: Vec<u32> = if self.result_bytes + len > total {
                user.done.iter(&self.entries, Kind::UserDone).map(|(older, _)| older).collect()
            } else {
                Vec::new()
            };
            for older in older {
                if self.result_bytes + len <= total {
                    break;
                }
                if let Some(dropped) = self.entries[older].result.take() {
                    self.result_bytes -= dropped.len();
                    self.counters.results_dropped += 1;
                }
            }
        }
        if self.result_bytes + len > total {
            self.counters.results_dropped += 1;
            return;
        }
        self.result_bytes += len;
        self.entries[index].result = Some(result);
    }
}
