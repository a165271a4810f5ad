//! A limit for log lines that one client can cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::refused::Refused;
use crate::panics;

/// Lines of one kind are at least this far apart.
const BETWEEN: Duration = Duration::from_secs(5);

/// The kinds of lines that are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogLine {
    /// A call was refused, for each reason.
    Refused(Refused),
    /// A reader has found lost tasks while the bus could not be written.
    LostTasksNotEnded,
    /// The last will of a lost task could not be delivered.
    LastWillNotDelivered,
}

const KINDS: usize = Refused::COUNT + 2;

impl LogLine {
    const fn index(self) -> usize {
        match self {
            Self::Refused(reason) => reason as usize,
            Self::LostTasksNotEnded => Refused::COUNT,
            Self::LastWillNotDelivered => Refused::COUNT + 1,
        }
    }
}

/// Lets one line of each kind through in five seconds, and counts those that it leaves out.
#[derive(Debug)]
pub(super) struct LogLimit(Mutex<[Kind; KINDS]>);

#[derive(Clone, Copy, Debug)]
struct Kind {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new([Kind { last: None, left_out: 0 }; KINDS]))
    }

    /// Calls `write` if a line of this kind may be written, with the number of lines that were left out since the last one.
    pub(super) fn write(&self, line: LogLine, write: impl FnOnce(u64)) {
        if let Some(left_out) = self.allow(line) {
            panics::quietly(|| write(left_out));
        }
    }

    fn allow(&self, line: LogLine) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.get_mut(line.index())?;
        if kind.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN) {
            kind.left_out += 1;
            return None;
        }
        kind.last = Some(now);
        Some(std::mem::take(&mut kind.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_five_seconds_says_how_many_were_left_out() {
        let limit = LogLimit::new();
        let line = LogLine::Refused(Refused::TooManyRunning);
        assert_eq!(limit.allow(line), Some(0));
        for _ in 0..1000 {
            assert_eq!(limit.allow(line), None);
        }
        assert_eq!(limit.allow(LogLine::LastWillNotDelivered), Some(0), "another kind");
        tokio::time::advance(BETWEEN).await;
        assert_eq!(limit.allow(line), Some(1000));
        assert_eq!(limit.allow(line), None);
    }

    #[test]
    fn each_kind_has_a_place() {
        let limit = LogLimit::new();
        let others = [LogLine::LostTasksNotEnded, LogLine::LastWillNotDelivered];
        for line in Refused::ALL.map(LogLine::Refused).into_iter().chain(others) {
            assert_eq!(limit.allow(line), Some(0), "{line:?}");
        }
    }
}
