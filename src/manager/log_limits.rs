//! The kinds of log lines that clients and peers of this manager can cause at will.

use super::refused::Refused;
use crate::log_limit::LogLimit;

/// A limit for each kind of line.
#[derive(Debug)]
pub(super) struct LogLimits {
    refused: [LogLimit; Refused::COUNT],
    /// A reader has found lost tasks while the bus could not be written.
    pub(super) lost_tasks_not_ended: LogLimit,
    /// The last will of a lost task could not be delivered.
    pub(super) last_will_not_delivered: LogLimit,
}

impl LogLimits {
    pub(super) const fn new() -> Self {
        Self {
            refused: [const { LogLimit::new() }; Refused::COUNT],
            lost_tasks_not_ended: LogLimit::new(),
            last_will_not_delivered: LogLimit::new(),
        }
    }

    /// Calls `write` for a call that was refused. Each reason has a limit of its own.
    pub(super) fn refused(&self, reason: Refused, write: impl FnOnce(u64)) {
        if let Some(limit) = self.refused.get(reason as usize) {
            limit.write(write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_limit_of_its_own() {
        let limits = LogLimits::new();
        let mut written = Vec::new();
        for reason in Refused::ALL.into_iter().chain(Refused::ALL) {
            limits.refused(reason, |left_out| written.push((reason, left_out)));
        }
        assert_eq!(written, Refused::ALL.map(|reason| (reason, 0)));
    }
}
