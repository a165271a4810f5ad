use super::MemoryBus;
use super::limits::Limits;

/// Makes a [`MemoryBus`] with other limits than the default ones.
///
/// ```
/// use tower_offload::MemoryBus;
///
/// let bus = MemoryBus::builder().max_queue_entries(1_000).max_stored_bytes(8 << 20).build();
/// assert_eq!(bus.stats().queued_bytes, 0);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemoryBusBuilder {
    limits: Limits,
    shared: bool,
}

impl MemoryBusBuilder {
    /// Whether what is written to the bus is for others too; `false` by default.
    ///
    /// A manager that is alone on its bus does not write to it what only others would read. With several managers
    /// in one process, for example one for each kind of service, give them clones of one bus with `shared(true)`:
    /// then each sees the tasks of the others and can stop them.
    pub const fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// The most entries of one queue, beyond which its oldest are dropped; 65,536 by default, at least 1.
    pub const fn max_queue_entries(mut self, entries: usize) -> Self {
        self.limits.queue_entries = at_least_one(entries);
        self
    }

    /// The most entries of one log, beyond which its oldest are dropped; 1,024 by default, at least 1.
    pub const fn max_log_entries(mut self, entries: usize) -> Self {
        self.limits.log_entries = at_least_one(entries);
        self
    }

    /// The most bytes of all queues and logs together, beyond which the oldest entries are dropped of the user, or of the
    /// program, that has most; 64 MiB by default. An entry that would not fit even alone is refused.
    ///
    /// Counted are keys, payloads and an estimate of what keeping them costs: some 400 bytes for each key and 130
    /// for each entry.
    pub const fn max_stored_bytes(mut self, bytes: usize) -> Self {
        self.limits.stored_bytes = bytes;
        self
    }

    /// The most bytes of registry, locks and directory together, counted in the same way; 16 MiB by default. Beyond it
    /// ended tasks go, then the namespaces with a time to live that were written longest ago. What does not fit then is
    /// refused with an error.
    pub const fn max_registry_bytes(mut self, bytes: usize) -> Self {
        self.limits.registry_bytes = bytes;
        self
    }

    /// How many messages wait for a slow subscriber. Beyond that it loses new ones, and gets their number; 1,024 by default,
    /// at least 1.
    pub const fn subscriber_capacity(mut self, messages: usize) -> Self {
        self.limits.subscriber_capacity = messages;
        self
    }

    /// How many of the newest deliveries are recognised when they come again; 65,536 by default, each of some 80
    /// bytes whatever its texts. With 0 every delivery is new.
    pub const fn remembered_deliveries(mut self, deliveries: usize) -> Self {
        self.limits.deliveries = deliveries;
        self
    }

    /// The bus.
    #[must_use]
    pub fn build(self) -> MemoryBus {
        MemoryBus::with_limits(self.limits, self.shared)
    }
}

const fn at_least_one(entries: usize) -> usize {
    if entries == 0 { 1 } else { entries }
}
