use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{InfoDict, Value};
use tokio::time::Instant;

use super::contact::Contact;

/// A gap without contact that is shorter than this kept no owner from renewing its lease.
const NO_GAP: Duration = Duration::from_millis(100);

/// Since when the owners that are alive could renew their leases.
///
/// Leases end by the server's clock, while it is down or out of reach too. Who has just come back must not take the
/// others for dead, who have not had the time to come back themselves.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The connection that is known about, by its number.
    connection: u64,
    /// How long the server had been up when it was asked, and when that was.
    up: Option<(Duration, Instant)>,
    /// When the last gap ended.
    back: Option<Instant>,
}

impl Settled {
    /// Whether the server should be asked how long it has been up.
    pub(super) fn is_news(&self, contact: &Contact) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.up.is_none() || state.connection != contact.connections
    }

    /// Takes note of the connection that has just answered, and of what it said to `INFO server` if it was asked.
    pub(super) fn observe(&self, contact: &Contact, info: Option<Value>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.connection != contact.connections {
            state.connection = contact.connections;
            state.up = None;
            if contact.last_gap.is_some_and(|gap| gap >= NO_GAP) {
                state.back = Some(contact.since);
            }
        }
        if let Some(info) = info {
            // A server that does not say is taken for one that has always been up.
            let up =
                redis::from_redis_value::<InfoDict>(info).ok().and_then(|info| info.get("uptime_in_seconds"));
            let up = up.map_or(Duration::MAX, Duration::from_secs);
            state.up = Some((up, Instant::now()));
        }
    }

    /// Whether it has been so for a whole lease.
    pub(super) fn is_settled(&self, lease: Duration) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.up.is_some_and(|(up, at)| up.saturating_add(at.elapsed()) >= lease)
            && state.back.is_none_or(|back| back.elapsed() >= lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn up(seconds: u64) -> Option<Value> {
        Some(Value::BulkString(format!("# Server\r\nuptime_in_seconds:{seconds}\r\n").into_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_judges_right_after_the_server_was_started() {
        let (settled, mut contact) = (Settled::default(), Contact::new());
        assert!(settled.is_news(&contact) && !settled.is_settled(LEASE));
        contact.made();
        settled.observe(&contact, up(4));
        assert!(!settled.is_news(&contact) && !settled.is_settled(LEASE));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(settled.is_settled(LEASE));

        let settled = Settled::default();
        settled.observe(&contact, up(15));
        assert!(settled.is_settled(LEASE), "it was up before this process came");
        let settled = Settled::default();
        settled.observe(&contact, Some(Value::Nil));
        assert!(settled.is_settled(LEASE));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_judges_right_after_a_gap() {
        let (settled, mut contact) = (Settled::default(), Contact::new());
        contact.made();
        settled.observe(&contact, up(1000));
        for (gap, trusts) in [(0, true), (20, false)] {
            contact.lost(Instant::now(), super::super::server::Trouble::new("gone"));
            tokio::time::advance(Duration::from_secs(gap)).await;
            contact.made();
            assert!(settled.is_news(&contact));
            settled.observe(&contact, up(1000));
            assert_eq!(settled.is_settled(LEASE), trusts, "after {gap} s");
        }
        tokio::time::advance(LEASE).await;
        assert!(settled.is_settled(LEASE));
    }
}
