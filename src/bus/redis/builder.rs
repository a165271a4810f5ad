use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::{BusError, Result};
use super::deliver::Inboxes;
use super::names::Names;
use super::server::Server;
use super::settled::Settled;
use super::{Client, Hub, Inner, RedisBus};

/// Makes a [`RedisBus`].
///
/// ```
/// use std::time::Duration;
///
/// use tower_offload::RedisBus;
///
/// # fn main() -> Result<(), tower_offload::bus::BusError> {
/// let bus = RedisBus::builder("redis://127.0.0.1:6379")
///     .prefix("staging")
///     .database(3)
///     .response_timeout(Duration::from_secs(2))
///     .build()?;
/// assert!(RedisBus::builder("http://127.0.0.1").build().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` or `connect` is called"]
pub struct RedisBusBuilder {
    url: String,
    prefix: Option<String>,
    database: Option<u32>,
    connect_timeout: Duration,
    response_timeout: Duration,
    subscriber_capacity: usize,
    max_queue_entries: usize,
    inbox_ttl: Duration,
}

impl RedisBusBuilder {
    pub(super) fn new(url: String) -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            url,
            prefix: None,
            database: None,
            connect_timeout: timeout,
            response_timeout: timeout,
            subscriber_capacity: 1024,
            max_queue_entries: 65_536,
            inbox_ttl: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }

    /// What the names of keys and channels begin with on the server, in place of `agentscope`, which is the default
    /// and what AgentScope's own processes use.
    ///
    /// Only names that begin with `agentscope:` are changed, and no others. A colon follows by itself. In braces, as in
    /// `{agentscope}`, it puts all keys into one slot of a Redis Cluster.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The number of the database, whatever the URL says. Channels know no databases: what is published reaches the
    /// subscribers of all of them. Two deployments on one server need two prefixes.
    pub const fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// For how long to wait for a connection; 5 s by default.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// For how long to wait for an answer; 5 s by default. A server that does not answer in time is taken for gone:
    /// the next call connects again.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How many messages wait for a subscriber that is slow, beyond which new ones are lost to it and it is told how
    /// many; 1,024 by default, at least 1.
    pub const fn subscriber_capacity(mut self, messages: usize) -> Self {
        self.subscriber_capacity = messages;
        self
    }

    /// The most entries that a [delivery](crate::bus::MessageBus::deliver) leaves in an inbox and in the queue of wakeups,
    /// beyond which their oldest are dropped; 65,536 by default, at least 1. The server drops whole nodes of its streams,
    /// so that there may be some hundred more.
    pub const fn max_queue_entries(mut self, entries: usize) -> Self {
        self.max_queue_entries = if entries == 0 { 1 } else { entries };
        self
    }

    /// For how long an inbox lives after the last delivery into it, read or not; 30 days by default. Without a limit each
    /// session that no client reads stays on the server.
    pub const fn inbox_ttl(mut self, ttl: Duration) -> Self {
        self.inbox_ttl = ttl;
        self
    }

    /// The bus. It connects when it is used for the first time, so that a server that is down is no error here.
    ///
    /// # Errors
    ///
    /// The URL or another option cannot work, whatever the server says. The password is in no error.
    pub fn build(self) -> Result<RedisBus> {
        let refuse = |reason: String| BusError::new("set up the bus on Redis", reason);
        let names = self.prefix.as_deref().map_or(Ok(Names::default()), Names::new).map_err(refuse)?;
        let server = Server::new(&self.url, self.database, self.connect_timeout, self.response_timeout);
        let server = Arc::new(server.map_err(refuse)?);
        let hub = Hub::new(Arc::clone(&server), self.subscriber_capacity);
        let client = Client::new(Arc::clone(&server));
        let (settled, inboxes) = (Settled::default(), Inboxes::new(self.max_queue_entries, self.inbox_ttl));
        Ok(RedisBus { inner: Arc::new(Inner { server, names, client, hub, settled, inboxes }) })
    }

    /// The bus, once the server has answered.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); and if the server is not there, does not let the user in, or has no such database.
    pub async fn connect(self) -> Result<RedisBus> {
        let bus = self.build()?;
        bus.client().query::<()>("reach the server of the bus", redis::cmd("PING")).await?;
        Ok(bus)
    }
}

impl fmt::Debug for RedisBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: there may be a password in it.
        f.debug_struct("RedisBusBuilder")
            .field("prefix", &self.prefix)
            .field("database", &self.database)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("subscriber_capacity", &self.subscriber_capacity)
            .field("max_queue_entries", &self.max_queue_entries)
            .field("inbox_ttl", &self.inbox_ttl)
            .finish_non_exhaustive()
    }
}
