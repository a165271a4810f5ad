use std::time::SystemTime;

/// How a bus is connected, and what it could not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusHealth {
    /// Whether the last that is known is that it can be reached.
    pub connected: bool,
    /// Since when it is so; `None` if that was never found out.
    pub since: Option<SystemTime>,
    /// What went wrong last, if it is not connected.
    pub last_error: Option<String>,
    /// How many entries and records the bus has dropped, since it was made, to make room for newer ones.
    pub dropped: u64,
    /// How many writes the bus has refused, since it was made, because it had no room.
    pub refused: u64,
}

impl BusHealth {
    /// The bus can be reached.
    #[must_use]
    pub const fn connected(since: Option<SystemTime>) -> Self {
        Self { connected: true, since, last_error: None, dropped: 0, refused: 0 }
    }

    /// The bus cannot be reached.
    #[must_use]
    pub const fn disconnected(since: Option<SystemTime>, last_error: Option<String>) -> Self {
        Self { connected: false, since, last_error, dropped: 0, refused: 0 }
    }

    /// Adds what the bus has dropped and refused because it was full.
    #[must_use]
    pub const fn with_losses(mut self, dropped: u64, refused: u64) -> Self {
        self.dropped = dropped;
        self.refused = refused;
        self
    }
}
