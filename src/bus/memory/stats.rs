/// What a [`MemoryBus`](super::MemoryBus) holds at one moment, and what it had to drop since it was made.
///
/// Bytes are those that the limits count: keys, payloads and an estimate of what keeping them costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBusStats {
    /// Queues that hold something.
    pub queues: usize,
    /// Entries in them.
    pub queued_entries: usize,
    /// Bytes of queues.
    pub queued_bytes: usize,
    /// Logs that hold something.
    pub logs: usize,
    /// Entries in them.
    pub logged_entries: usize,
    /// Bytes of logs.
    pub logged_bytes: usize,
    /// Entries of queues and logs that were dropped because of a limit, since the bus was made. What expired, was
    /// deleted, or was trimmed as asked does not count.
    pub dropped_entries: u64,
    /// Namespaces of the registry that hold something.
    pub namespaces: usize,
    /// Fields in them.
    pub fields: usize,
    /// Locks that are held.
    pub locks: usize,
    /// Bytes of registry, locks and directory.
    pub registry_bytes: usize,
    /// Namespaces of the registry and ended tasks that were dropped because of the limit, since the bus was made.
    pub dropped_from_registry: u64,
    /// Writes that were refused because there was no room, since the bus was made.
    pub refused_writes: u64,
    /// Channels with a subscriber.
    pub channels: usize,
    /// Subscribers; a subscription to two channels counts twice.
    pub subscribers: usize,
    /// Messages that did not reach a subscriber because it was too slow, since the bus was made.
    pub lagged_messages: u64,
    /// Deliveries that would be recognised if they came again.
    pub remembered_deliveries: usize,
}
