mod table;
mod worker;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::table::{Channel, Subscriber};
use self::worker::Worker;
use super::super::{BusError, PubSub, Result, Subscription, has_doubled};
use super::RedisBus;
use super::names::Names;
use super::server::Server;

const SUBSCRIBE: &str = "subscribe to channels";

/// All subscriptions of a bus. They share one connection, which a task owns: it is there from the first subscription
/// on, and closed a while after the last one is gone. The task ends with the bus, and the subscriptions with it.
#[derive(Debug)]
pub(super) struct Hub {
    server: Arc<Server>,
    capacity: usize,
    worker: Mutex<Option<mpsc::UnboundedSender<Subscriber>>>,
    gauges: Arc<Gauges>,
}

/// What the task tells about itself.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) subscriptions: AtomicUsize,
    pub(super) reconnects: AtomicU64,
    pub(super) lagged: AtomicU64,
}

impl Gauges {
    fn count_lagged(&self) {
        let before = self.lagged.fetch_add(1, Ordering::Relaxed);
        if has_doubled(before, before + 1) {
            tracing::warn!(
                lagged_messages = before + 1,
                "a subscriber of the message bus is too slow: messages to it were lost"
            );
        }
    }
}

impl Hub {
    pub(super) fn new(server: Arc<Server>, capacity: usize) -> Self {
        Self { server, capacity, worker: Mutex::default(), gauges: Arc::default() }
    }

    pub(super) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    async fn subscribe(&self, names: &Names, channels: &[&str]) -> Result<Subscription> {
        let (sender, subscription) = Subscription::channel(self.capacity);
        let mut wanted: Vec<Channel> = Vec::with_capacity(channels.len());
        for name in channels {
            let on_server = names.on_server(name);
            // Named twice, heard once.
            if !wanted.iter().any(|channel| *channel.on_server == *on_server) {
                wanted.push(Channel { on_server: (*on_server).into(), name: (*name).into() });
            }
        }
        if wanted.is_empty() {
            return Ok(subscription);
        }
        let (waiting, live) = oneshot::channel();
        self.submit(Subscriber { sender, channels: wanted, waiting: Some(waiting), end: None })?;

        // The task has timeouts of its own. This one is for when its runtime stands still.
        let patience = self.server.connect_timeout.saturating_add(self.server.response_timeout);
        match timeout(patience, live).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(trouble))) => Err(BusError::new(SUBSCRIBE, trouble)),
            Ok(Err(_)) => Err(BusError::new(SUBSCRIBE, "the task of the subscriptions has ended")),
            Err(_) => Err(BusError::new(SUBSCRIBE, format!("no answer within {patience:?}"))),
        }
    }

    /// Hands a subscriber to the task, which is started if there is none: it is the first one, or the runtime that
    /// the task was in is gone.
    fn submit(&self, subscriber: Subscriber) -> Result<()> {
        let runtime = Handle::try_current().map_err(|error| BusError::new(SUBSCRIBE, error))?;
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let subscriber = match &*worker {
            Some(running) => match running.send(subscriber) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(subscriber)) => subscriber,
            },
            None => subscriber,
        };
        let (submit, submitted) = mpsc::unbounded_channel();
        let task = Worker::new(Arc::clone(&self.server), submitted, Arc::clone(&self.gauges));
        runtime.spawn(task.run());
        // The receiver is in the task, and a runtime that has shut down drops both.
        let _ = submit.send(subscriber);
        *worker = Some(submit);
        Ok(())
    }
}

#[async_trait]
impl PubSub for RedisBus {
    async fn publish(&self, channel: &str, payload: &str) -> Result<()> {
        let channel = self.on_server(channel);
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel.as_bytes()).arg(payload);
        self.client().query::<()>("publish a message", command).await
    }

    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        self.inner.hub.subscribe(&self.inner.names, channels).await
    }
}
