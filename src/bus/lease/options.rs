use std::time::Duration;

/// How [`LockExt::lock`](super::LockExt::lock) takes a lock and holds it.
///
/// ```
/// use std::time::Duration;
///
/// use tower_offload::bus::LeaseOptions;
///
/// let patient = LeaseOptions::new().ttl(Duration::from_secs(600)).max_wait(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions {
    pub(super) ttl: Duration,
    pub(super) max_wait: Duration,
}

impl LeaseOptions {
    /// A lease of 30 s, and at most 10 s of waiting for it.
    #[must_use]
    pub const fn new() -> Self {
        Self { ttl: Duration::from_secs(30), max_wait: Duration::from_secs(10) }
    }

    /// For how long the lock stays taken when its holder cannot renew it: the process died, or lost the bus. It is
    /// renewed three times as often.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// For how long to go on trying. With zero there is one attempt. The last attempt may end later.
    #[must_use]
    pub const fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self::new()
    }
}
