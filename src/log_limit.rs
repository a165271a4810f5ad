//! A limit for log lines that a client or a peer can cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::panics::quietly;

/// Lines of one kind are at least this far apart.
const BETWEEN: Duration = Duration::from_secs(5);

/// Lets one line of its kind through in five seconds, and counts those that it leaves out.
#[derive(Debug)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { last: None, left_out: 0 }))
    }

    /// Calls `write` if a line may be written, with the number of lines that were left out since the last one. A panic of
    /// the `tracing` subscriber ends here.
    pub(crate) fn write(&self, write: impl FnOnce(u64)) {
        if let Some(left_out) = self.allow() {
            quietly(|| write(left_out));
        }
    }

    fn allow(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_five_seconds_says_how_many_were_left_out() {
        let limit = LogLimit::new();
        assert_eq!(limit.allow(), Some(0));
        for _ in 0..1000 {
            assert_eq!(limit.allow(), None);
        }
        tokio::time::advance(BETWEEN).await;
        assert_eq!(limit.allow(), Some(1000));
        assert_eq!(limit.allow(), None);
    }

    #[test]
    fn a_subscriber_may_panic_and_may_come_here_again() {
        let limit = LogLimit::new();
        limit.write(|_| {
            limit.write(|_| ());
            panic!("a subscriber that panics, as it should");
        });
        assert_eq!(limit.allow(), None);
    }
}
