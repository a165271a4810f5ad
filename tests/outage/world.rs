//! A server, two processes on it, and the ways in which it goes away.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tower_offload::manager::TaskManagerBuilder;
use tower_offload::{RedisBus, TaskManager};

use crate::process::Process;
use crate::proxy::{Proxy, Way};
use crate::redis_server::RedisServer;

pub(crate) use crate::patience::PATIENCE;

/// The connect and response timeout of a process behind a proxy.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);
/// The lease of a process, where a test waits for its end. A process renews it every two seconds, so that one on a busy
/// machine keeps it.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// How the server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// It is stopped, and keeps its data.
    Stopped,
    /// It is stopped, and comes back empty.
    Emptied,
    /// The way of one process is closed.
    Cut,
    /// What one process sends is taken, and never answered.
    Stalled,
}

pub(crate) const ALL: [Outage; 4] = [Outage::Stopped, Outage::Emptied, Outage::Cut, Outage::Stalled];

pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    outage: Outage,
    /// The process behind the proxy: every outage is one for it.
    pub(crate) one: Process,
    /// The process that is with the server.
    pub(crate) other: Process,
}

impl World {
    pub(crate) async fn new(outage: Outage) -> Self {
        Self::with(outage, TaskManager::builder).await
    }

    /// Processes that do not count as alive for long.
    pub(crate) async fn short_lived(outage: Outage) -> Self {
        Self::with(outage, || TaskManager::builder().lease(LEASE)).await
    }

    /// Managers that are made in another way.
    pub(crate) async fn with(outage: Outage, builder: impl Fn() -> TaskManagerBuilder) -> Self {
        let server = match outage {
            Outage::Emptied => RedisServer::start(),
            _ => RedisServer::persistent(),
        };
        let proxy = Proxy::to(server.port()).await;
        let one = Process::start(impatient(proxy.url()), builder()).await;
        let other = Process::start(patient(server.url()), builder()).await;
        Self { server, proxy, outage, one, other }
    }

    /// How many processes the server knows that listen to a channel.
    pub(crate) fn listeners(&self, channel: &str) -> usize {
        let mut plain = redis::Client::open(self.server.url()).unwrap().get_connection().unwrap();
        let (_, listeners): (String, usize) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query(&mut plain).unwrap();
        listeners
    }

    /// It goes away.
    pub(crate) fn begin(&mut self) {
        match self.outage {
            Outage::Stopped | Outage::Emptied => self.server.stop(),
            Outage::Cut => self.proxy.set(Way::Cut),
            Outage::Stalled => self.proxy.set(Way::Stall),
        }
    }

    /// It comes back.
    pub(crate) fn end(&mut self) {
        match self.outage {
            Outage::Stopped | Outage::Emptied => self.server.restart(),
            Outage::Cut | Outage::Stalled => self.proxy.set(Way::Pass),
        }
    }
}

/// A connection that gives up on an answer soon: that of a process behind a proxy, which may be mute.
pub(crate) fn impatient(url: String) -> RedisBus {
    RedisBus::builder(url).connect_timeout(ANSWER).response_timeout(ANSWER).build().unwrap()
}

/// A connection that waits for every answer: it only fails when the server is gone.
pub(crate) fn patient(url: String) -> RedisBus {
    RedisBus::builder(url).connect_timeout(PATIENCE).response_timeout(PATIENCE).build().unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up, "this never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets time pass while a condition holds: for events that must not happen, and for leases to end.
pub(crate) async fn always(time: Duration, mut holds: impl AsyncFnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        holds().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a case in each of some outages at the same time: most of it is waiting.
pub(crate) async fn in_each(outages: &[Outage], case: impl AsyncFn(Outage)) {
    let cases = outages.iter().map(async |outage| {
        let done = AssertUnwindSafe(case(*outage)).catch_unwind().await;
        done.err().map(|_| *outage)
    });
    let failed: Vec<_> = join_all(cases).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "in these it went wrong, as said above: {failed:?}");
}
