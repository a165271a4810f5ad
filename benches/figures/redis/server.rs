//! What the server itself says about what it was asked.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, InfoDict};

/// A connection with nothing of this crate around it.
pub(crate) async fn bare(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("{url}?protocol=resp3")).expect("the URL is one");
    // Ten thousand at once take longer than it would wait by itself.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the server answers")
}

/// Counters of the server at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// By name, those that scripts run too.
    calls: BTreeMap<String, u64>,
    /// How often it read something from a connection: once for what came together, as long as that is below 16 KB.
    reads: u64,
}

impl Counters {
    pub(crate) async fn read(connection: &mut MultiplexedConnection) -> Self {
        let info: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(connection)
            .await
            .expect("the server says what it was asked");
        let calls = info.lines().filter_map(|line| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = numbers.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
            Some((name.to_owned(), calls))
        });
        let calls = calls.filter(|(name, _)| name != "info").collect();
        let stats: InfoDict = redis::cmd("INFO")
            .arg("stats")
            .query_async(connection)
            .await
            .expect("the server says what it was asked");
        Self { calls, reads: stats.get("total_reads_processed").unwrap_or_default() }
    }

    /// How often each command was run since `before`.
    pub(crate) fn calls_since(&self, before: &Self) -> BTreeMap<String, u64> {
        let calls = self
            .calls
            .iter()
            .map(|(name, calls)| (name.clone(), calls - before.calls.get(name).copied().unwrap_or_default()));
        calls.filter(|(_, calls)| *calls > 0).collect()
    }

    /// How often it read since `before`, but for the two questions of the second [`read`](Self::read).
    pub(crate) fn reads_since(&self, before: &Self) -> u64 {
        (self.reads - before.reads).saturating_sub(2)
    }
}
