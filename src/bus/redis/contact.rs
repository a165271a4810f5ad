use std::time::Duration;

use tokio::time::Instant;

use super::server::Trouble;

/// Whether there is a connection, and how it was before.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    pub(super) connected: bool,
    /// Since when it is so.
    pub(super) since: Instant,
    pub(super) last_error: Option<Trouble>,
    /// Connections made so far.
    pub(super) connections: u64,
    /// For how long there was no contact before the present connection, or the last one.
    pub(super) last_gap: Option<Duration>,
}

impl Contact {
    pub(super) fn new() -> Self {
        Self { connected: false, since: Instant::now(), last_error: None, connections: 0, last_gap: None }
    }

    pub(super) fn made(&mut self) {
        let now = Instant::now();
        // Before the first connection there was nothing to lose; but if it took several attempts the server was away.
        let gap = self.connections > 0 || self.last_error.is_some();
        self.last_gap = gap.then(|| now.saturating_duration_since(self.since));
        self.connections += 1;
        self.connected = true;
        self.since = now;
    }

    /// The connection was well until `since`.
    pub(super) fn lost(&mut self, since: Instant, error: Trouble) {
        self.connected = false;
        self.since = since;
        self.last_error = Some(error);
    }

    pub(super) fn failed(&mut self, error: Trouble) {
        self.last_error = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gap_begins_when_contact_was_lost_and_not_when_that_was_found_out() {
        let mut contact = Contact::new();
        tokio::time::advance(Duration::from_secs(9)).await;
        contact.made();
        assert_eq!(contact.last_gap, None);

        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        contact.lost(asked, Trouble::new("no answer"));
        contact.failed(Trouble::new("refused"));
        assert_eq!((contact.connected, contact.since), (false, asked));
        tokio::time::advance(Duration::from_secs(1)).await;
        contact.made();
        assert_eq!(contact.last_gap, Some(Duration::from_secs(6)));
        assert_eq!((contact.connected, contact.connections), (true, 2));
        assert_eq!(contact.last_error.unwrap().to_string(), "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_connection_that_was_waited_for_ends_a_gap() {
        let mut contact = Contact::new();
        contact.failed(Trouble::new("refused"));
        tokio::time::advance(Duration::from_secs(9)).await;
        contact.made();
        assert_eq!(contact.last_gap, Some(Duration::from_secs(9)));
    }
}
