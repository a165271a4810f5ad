use std::time::Duration;

/// How a [`RedisBus`](super::RedisBus) gets on with its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisBusStats {
    /// Whether there is a connection for commands, as far as is known. It is made when it is needed, so that there is
    /// none before the first call.
    pub connected: bool,
    /// For how long it has been so.
    pub unchanged_for: Duration,
    /// What went wrong the last time, if anything did; it may be long ago.
    pub last_error: Option<String>,
    /// Connections for commands made so far.
    pub connections: u64,
    /// For how long there was no contact before the last connection was made; nothing if the first attempt
    /// has led to the first one.
    pub last_gap: Option<Duration>,
    /// Requests sent over them. What is sent together counts as one.
    pub round_trips: u64,
    /// Entries of inboxes and wakeups that deliveries have dropped, because there were
    /// [too many](super::RedisBusBuilder::max_queue_entries).
    pub dropped_entries: u64,
    /// Writes that the server has refused because it had no memory left.
    pub refused_writes: u64,
    /// Live subscriptions, and those that are about to be.
    pub subscriptions: usize,
    /// How often the connection of the subscriptions was lost and made again.
    pub resubscriptions: u64,
    /// Messages that did not reach a subscription of this bus because it was too slow.
    pub lagged_messages: u64,
}
