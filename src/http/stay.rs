use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rule::Rule;

/// Why a call stays in the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It has no user.
    Unidentified,
    /// A rule keeps it.
    Rule(Rule),
    /// `only` excludes it.
    Excluded,
    /// It reads the tasks.
    TaskRoutes,
}

/// The shortest time between two log lines of one reason.
const BETWEEN: Duration = Duration::from_secs(10);
const REASONS: usize = Rule::ALL.len() + 3;

/// When each reason was last logged, and how many times it was not since then. One for the process: layers come and go,
/// and the log is one.
static LOGGED: Mutex<[Logged; REASONS]> = Mutex::new([Logged { last: None, left_out: 0 }; REASONS]);

#[derive(Clone, Copy)]
struct Logged {
    last: Option<Instant>,
    left_out: u64,
}

impl Logged {
    /// How many lines were left out before this one; `None` if this one is left out too.
    fn at(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Stay {
    const fn index(self) -> usize {
        match self {
            Self::Rule(rule) => rule as usize,
            Self::Unidentified => Rule::ALL.len(),
            Self::Excluded => Rule::ALL.len() + 1,
            Self::TaskRoutes => Rule::ALL.len() + 2,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Unidentified => "its request names no user who could see the task",
            Self::Rule(rule) => rule.reason(),
            Self::Excluded => "the service excludes it",
            Self::TaskRoutes => "it reads the tasks",
        }
    }

    /// Says why a late call stays in the foreground: one line in ten seconds at most, since clients choose how many of
    /// their calls are late.
    #[cold]
    pub(super) fn log(self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let left_out = LOGGED.lock().unwrap_or_else(PoisonError::into_inner)[self.index()].at(Instant::now());
        if let Some(left_out) = left_out {
            tracing::debug!(reason = self.reason(), left_out, "a late call stays in the foreground");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_left_out_and_counted() {
        let begun = Instant::now();
        let mut logged = Logged { last: None, left_out: 0 };
        assert_eq!(logged.at(begun), Some(0));
        assert_eq!(logged.at(begun), None);
        assert_eq!(logged.at(begun + BETWEEN / 2), None);
        assert_eq!(logged.at(begun + BETWEEN), Some(2));
        assert_eq!(logged.at(begun + 2 * BETWEEN), Some(0));
    }
}
