//! What happens to a task after its end: how long its record and its result stay.

use super::{Kind, Limits, Phase, Table, TaskResult, Thrown};

/// How many records one call drops for their age at the most, so that no caller waits for a burst.
const BATCH: usize = 64;

impl Table {
    /// Adds an ended entry to the lists of finished tasks, and drops the oldest by end beyond the limits: first of its user,
    /// then of all users together.
    pub(super) fn retire(&mut self, limits: &Limits, index: u32) {
        let entries = &mut self.entries;
        let user = entries[index].user;
        self.done.push_back(entries, Kind::Done, index);
        self.users[user].done.push_back(entries, Kind::UserPhase, index);
        self.touch(user);
        // With no room for a single one the user may go with it.
        let mut too_many = self.users[user].done.len().saturating_sub(limits.max_retained_per_user);
        while let Some(oldest) = self.users[user].done.first().filter(|_| too_many > 0) {
            too_many -= 1;
            self.throw_away(oldest);
            if too_many == 0 {
                break;
            }
        }
        while self.done.len() > limits.max_retained {
            let Some(oldest) = self.done.first() else { break };
            self.throw_away(oldest);
        }
    }

    /// Drops some of what ended before `limits.retain_for` ago, and answers when the next one is due, which may be
    /// now.
    pub(in crate::manager) fn expire(&mut self, limits: &Limits, clock: u64) -> Option<u64> {
        let keep = u64::try_from(limits.retain_for?.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..BATCH {
            let due = self.oldest_end()?.saturating_add(keep);
            if due > clock {
                return Some(due);
            }
            if let Some(oldest) = self.done.first() {
                self.throw_away(oldest);
            }
        }
        self.oldest_end().map(|end| end.saturating_add(keep))
    }

    fn oldest_end(&self) -> Option<u64> {
        match &self.entries[self.done.first()?].phase {
            Phase::Ended(ended) => Some(ended.at),
            Phase::Running(_) => None,
        }
    }

    /// Counts the bytes of a result, from the moment when the work has returned it: it may wait long for the publication of
    /// its end. Older results of the same user make room if that is enough; the results of others stay, and so do those that
    /// wait. `None`: it does not fit.
    pub(super) fn reserve(&mut self, limits: &Limits, index: u32, result: TaskResult) -> Option<TaskResult> {
        let len = result.len();
        let user = self.entries[index].user;
        let others = self.result_bytes - self.users[user].result_bytes;
        let room = limits.max_result_bytes.saturating_sub(others).min(limits.max_result_bytes_per_user);
        let fits = |used: usize| used.checked_add(len).is_some_and(|sum| sum <= room);
        let fits_at_last = fits(self.users[user].result_bytes) || fits(self.waiting_result_bytes(user));
        if len > limits.max_result_bytes_per_task || !fits_at_last {
            self.counters.results_dropped += 1;
            self.trash.push(Thrown::Result(result));
            return None;
        }
        while let Some(oldest) =
            self.users[user].results.first().filter(|_| !fits(self.users[user].result_bytes))
        {
            self.forget_result(oldest);
            self.counters.results_dropped += 1;
        }
        self.result_bytes += len;
        self.users[user].result_bytes += len;
        Some(result)
    }

    /// The bytes of a user's results that wait for the publication of their ends.
    fn waiting_result_bytes(&self, user: u32) -> usize {
        let user = &self.users[user];
        let kept = user.results.iter(&self.entries, Kind::Results);
        let kept: usize = kept.filter_map(|(_, entry)| entry.result()).map(TaskResult::len).sum();
        user.result_bytes - kept
    }

    /// Gives the bytes of a result back that was reserved and is not kept.
    pub(super) fn give_back(&mut self, index: u32, result: TaskResult) {
        let user = self.entries[index].user;
        self.result_bytes -= result.len();
        self.users[user].result_bytes -= result.len();
        self.trash.push(Thrown::Result(result));
    }

    /// Keeps the result of a task that has ended. Its bytes are reserved.
    pub(super) fn store_result(&mut self, index: u32, result: TaskResult) {
        let Phase::Ended(ended) = &mut self.entries[index].phase else { return };
        ended.kept.get_or_insert_default().result = Some(result);
        let user = self.entries[index].user;
        self.users[user].results.push_back(&mut self.entries, Kind::Results, index);
    }

    /// Drops the result of a task, if there is one, when the lock is gone.
    pub(super) fn forget_result(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        let Some(result) = entry.kept_mut().and_then(|kept| kept.result.take()) else { return };
        let user = &mut self.users[entry.user];
        self.result_bytes -= result.len();
        user.result_bytes -= result.len();
        user.results.unlink(&mut self.entries, Kind::Results, index);
        self.trash.push(Thrown::Result(result));
    }
}
