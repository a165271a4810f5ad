mod answer;
mod backoff;
mod builder;
mod client;
mod contact;
mod deliver;
mod directory;
mod link;
mod lock;
mod log;
mod names;
mod pubsub;
mod queue;
mod read;
mod record;
mod registry;
mod script;
mod scripts;
mod server;
mod settled;
mod stats;
mod stream;
mod ttl;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::builder::RedisBusBuilder;
use self::client::Client;
use self::deliver::Inboxes;
use self::names::Names;
use self::pubsub::Hub;
use self::server::Server;
use self::settled::Settled;
pub use self::stats::RedisBusStats;
use super::Result;

/// The bus of many processes, on Redis 6.2 or later, or Valkey. It speaks the wire contract of AgentScope 2.0.10:
/// processes in Python and in Rust can share it.
///
/// Cheap to clone; all clones are the same bus. What is stored stays on the server; subscriptions end when the last
/// clone is dropped.
///
/// # Connections
///
/// One for all commands, and one for all subscriptions while there are any. Both are made when they are needed, and
/// again when they are lost. A connection is lost when it ends, and also when no answer comes within
/// [`response_timeout`](RedisBusBuilder::response_timeout): some peers take everything and never answer.
///
/// - While the server is away calls fail, most of them at once: attempts to connect are shared by all callers, and
///   between them is a pause of 50 ms at first and 1 s at most. No call waits for longer than the two timeouts.
/// - Subscriptions live on. They connect again after 0.1 s at first and 5 s at most, and each is told
///   [`Lagged(0)`](super::SubscriptionEvent::Lagged) when it is live again. That a peer has fallen silent is found
///   out within 5 s and the response timeout.
///
/// - A connection is carried by the tokio runtime that it was made on. When that runtime ends, requests under way fail, the
///   next call connects on its own runtime, and subscriptions go on on another runtime that they were made or read on.
/// - A `current_thread` runtime stands still between two calls of `block_on`, and carries nothing then. Subscriptions leave
///   such a runtime within a few seconds for one that they are read on, and hear `Lagged(0)`. The connection for commands is
///   treated like one to a silent peer. A runtime with threads of its own is preferred for subscriptions.
///
/// The protocol is RESP3.
///
/// # Keys
///
/// Names that begin with `agentscope:`, as those of [`keys`](super::keys) do, are written with the bus's
/// [`prefix`](RedisBusBuilder::prefix) in its place; all others as they are. Messages carry the name of the channel
/// that was subscribed to. A registry is a hash, queues and logs are streams whose entries have the one field
/// `payload`, a lock is a string. A stream that was emptied is removed; AgentScope leaves it, and does not mind.
///
/// Each call touches one key, except [`deliver`](super::MessageBus::deliver), which touches five: on a Redis Cluster
/// give the bus a prefix in braces.
///
/// What others have written and is not readable as this is skipped and logged in queues, logs, messages and
/// [`get_all`](super::Registry::get_all), and an error where one value was asked for.
///
/// # Deliveries
///
/// [`deliver`](super::MessageBus::deliver) is one script, so that nothing can come between its parts. While another
/// client holds the lock of the inbox the delivery waits; such a lock ends by itself after 30 s. The caller limits the
/// wait. Deliveries are remembered for 24 hours.
///
/// Clients choose the names of sessions, and there may be no reader of an inbox. So an inbox
/// [expires](RedisBusBuilder::inbox_ttl), and inboxes and the queue of wakeups lose their oldest entries beyond a
/// [limit](RedisBusBuilder::max_queue_entries). What was lost, and what the server refuses for lack of memory, is
/// counted in [`RedisBus::stats`] and in [`BusHealth`](super::BusHealth), and logged as a warning.
///
/// # TLS
///
/// `rediss://` needs the feature `redis-tls`. The certificates that the system trusts are trusted; `SSL_CERT_FILE`
/// names others. If the process has not chosen an implementation of cryptography for `rustls` by the time that the bus
/// is built, it is `ring`.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use tower_offload::{CancelDispatcher, RedisBus, TaskManager};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_offload::bus::BusError> {
/// let bus = RedisBus::builder("redis://127.0.0.1:6379").build()?;
/// let manager = TaskManager::builder().bus(Arc::new(bus)).build();
/// let _cancels = CancelDispatcher::builder(&manager).start_in_background();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisBus {
    inner: Arc<Inner>,
}

struct Inner {
    server: Arc<Server>,
    names: Names,
    client: Client,
    hub: Hub,
    settled: Settled,
    inboxes: Inboxes,
}

impl RedisBus {
    /// A bus on the server that `url` names: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, or
    /// `unix:///path[?db=database&user=user&pass=password]`. Names and passwords are percent-encoded.
    pub fn builder(url: impl Into<String>) -> RedisBusBuilder {
        RedisBusBuilder::new(url.into())
    }

    /// The state of the connection to the server. The call sends nothing.
    #[must_use]
    pub fn stats(&self) -> RedisBusStats {
        let contact = self.client().link().contact();
        let gauges = self.inner.hub.gauges();
        RedisBusStats {
            connected: contact.connected,
            unchanged_for: contact.since.elapsed(),
            last_error: contact.last_error.map(|error| error.to_string()),
            connections: contact.connections,
            last_gap: contact.last_gap,
            round_trips: self.client().link().round_trips(),
            dropped_entries: self.inner.inboxes.dropped(),
            refused_writes: self.client().link().out_of_memory(),
            subscriptions: gauges.subscriptions.load(Ordering::Relaxed),
            resubscriptions: gauges.reconnects.load(Ordering::Relaxed),
            lagged_messages: gauges.lagged.load(Ordering::Relaxed),
        }
    }

    fn client(&self) -> &Client {
        &self.inner.client
    }

    /// How a name is written on the server.
    fn on_server<'a>(&self, name: &'a str) -> Cow<'a, str> {
        self.inner.names.on_server(name)
    }

    async fn exists(&self, operation: &'static str, on_server: &str) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(on_server.as_bytes());
        self.client().query(operation, command).await
    }

    async fn delete_key(&self, operation: &'static str, key: &str) -> Result<()> {
        let mut command = redis::cmd("DEL");
        command.arg(self.on_server(key).as_bytes());
        self.client().query(operation, command).await
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { server, names, .. } = &*self.inner;
        f.debug_struct("RedisBus")
            .field("prefix", &names.prefix())
            .field("server", server)
            .finish_non_exhaustive()
    }
}
