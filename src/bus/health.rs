use std::time::SystemTime;

/// How a bus is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusHealth {
    /// Whether the last that is known is that it can be reached.
    pub connected: bool,
    /// Since when it is so; `None` if that was never found out.
    pub since: Option<SystemTime>,
    /// What went wrong last, if it is not connected.
    pub last_error: Option<String>,
}

impl BusHealth {
    /// It is there.
    #[must_use]
    pub const fn connected(since: Option<SystemTime>) -> Self {
        Self { connected: true, since, last_error: None }
    }

    /// It is not.
    #[must_use]
    pub const fn disconnected(since: Option<SystemTime>, last_error: Option<String>) -> Self {
        Self { connected: false, since, last_error }
    }
}
