use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::{BusError, Result};
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
        Ok(RedisBus { inner: Arc::new(Inner { server, names, client, hub, settled: Settled::default() }) })
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
            .finish_non_exhaustive()
    }
}
