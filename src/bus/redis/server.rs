use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, ConnectionInfo, ProtocolVersion, RedisError};

use crate::task::logged;

/// Why there is no answer. It is told to all who wait for one.
#[derive(Clone, Debug)]
pub(super) struct Trouble(Arc<str>);

impl Trouble {
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Where the server is, and how long to wait for it.
pub(super) struct Server {
    client: redis::Client,
    /// Host and port, or a path: for people, without secrets.
    address: Arc<str>,
    database: i64,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
}

impl Server {
    /// Checks all that can be checked without a connection. The reason of a refusal never repeats the URL, because the
    /// URL may hold a password.
    pub(super) fn new(
        url: &str,
        database: Option<u32>,
        connect_timeout: Duration,
        response_timeout: Duration,
    ) -> Result<Self, String> {
        if connect_timeout.is_zero() || response_timeout.is_zero() {
            return Err("a timeout of zero leaves no time for an answer".to_owned());
        }
        let info = parse(url)?;
        let database = database.map_or(info.redis_settings().db(), i64::from);
        if database < 0 {
            return Err(format!("there is no database {database}"));
        }
        #[cfg(feature = "redis-tls")]
        if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
            provide_cryptography();
        }
        let address = info.addr().to_string().into();
        // RESP3, because there messages, acknowledgements and the end of the connection come as one ordered stream.
        // `CLIENT SETINFO` is left out: servers before 7.2 answer it with an error.
        let settings = info.redis_settings().clone();
        let settings = settings.set_db(database).set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        let info =
            info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = redis::Client::open(info).map_err(|error| error.to_string())?;
        Ok(Self { client, address, database, connect_timeout, response_timeout })
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// What is wrong with this server.
    pub(super) fn trouble(&self, cause: fmt::Arguments<'_>) -> Trouble {
        // The cause may be what the server answered.
        Trouble::new(logged(format_args!("Redis at {}: {cause}", self.address)))
    }

    /// A new connection, or an error after the connect timeout at the latest.
    pub(super) async fn connect(
        &self,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisError> {
        // The caller limits how long an answer may take.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(pushes);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("database", &self.database)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

fn parse(url: &str) -> Result<ConnectionInfo, String> {
    let Some(parsed) = redis::parse_redis_url(url) else {
        return Err("the URL is not one of redis://, rediss:// or unix:// followed by a server".to_owned());
    };
    let scheme = parsed.scheme();
    let is_socket = scheme.ends_with("unix");
    let is_tls = matches!(scheme, "rediss" | "valkeys");
    if is_tls && !cfg!(feature = "redis-tls") {
        return Err(format!("{scheme}:// needs the feature `redis-tls`"));
    }
    if !is_socket && parsed.host_str().is_none_or(str::is_empty) {
        return Err("the URL names no host".to_owned());
    }
    // A `#`, `?` or `/` in a password ends the part of the URL that it should be in, and the rest would be taken for
    // something that may be shown.
    let rest = [parsed.path(), parsed.query().unwrap_or_default()];
    if parsed.fragment().is_some() || (!is_socket && rest.iter().any(|part| part.contains('@'))) {
        return Err(
            "the URL has a part too many: write #, ?, / and @ in a password as %23, %3F, %2F and %40"
                .to_owned(),
        );
    }
    if !is_socket && parsed.port() == Some(0) {
        return Err("there is no port 0".to_owned());
    }
    if parsed.query_pairs().any(|(name, value)| name == "protocol" && !matches!(&*value, "3" | "resp3")) {
        return Err("the bus speaks RESP3 and no other protocol".to_owned());
    }
    let info = redis::IntoConnectionInfo::into_connection_info(parsed).map_err(|error| error.to_string())?;
    if !info.addr().is_supported() {
        return Err("this platform has no such connections".to_owned());
    }
    Ok(info)
}

/// Without one that the process has chosen, rustls would panic where several are compiled in.
#[cfg(feature = "redis-tls")]
fn provide_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that the program has installed a provider meanwhile, which is used then.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
