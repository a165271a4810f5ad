mod table;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::table::{Channel, Id, Subscriber};
use self::worker::{Order, Worker};
use super::super::carried::{Carried, WeakCarried};
use super::super::subscription::Carrier;
use super::super::{BusError, PubSub, Result, Subscription, has_doubled};
use super::RedisBus;
use super::names::Names;
use super::server::Server;
use crate::panics::with_quiet_waker;

const SUBSCRIBE: &str = "subscribe to channels";

/// All subscriptions of a bus. They share one connection, which a task owns: it is there from the first subscription
/// on, and closed a while after the last one is gone. The task ends with the bus, and the subscriptions with it.
#[derive(Debug)]
pub(super) struct Hub {
    server: Arc<Server>,
    capacity: usize,
    orders: mpsc::UnboundedSender<Order>,
    worker: Carried<Worker>,
    last_id: AtomicU64,
    gauges: Arc<Gauges>,
}

/// What a subscription knows of its hub. The hub is gone when the bus is.
struct Registration {
    id: Id,
    orders: mpsc::WeakUnboundedSender<Order>,
    worker: WeakCarried<Worker>,
}

impl Carrier for Registration {
    fn poke(&self) {
        self.worker.poke();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(orders) = self.orders.upgrade() {
            // The worker has the receiver.
            let _ = orders.send(Order::Leave(self.id));
        }
    }
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
        let (orders, submitted) = mpsc::unbounded_channel();
        let gauges = Arc::<Gauges>::default();
        let worker = Carried::new(Worker::new(Arc::clone(&server), submitted, Arc::clone(&gauges)));
        Self { server, capacity, orders, worker, last_id: AtomicU64::new(0), gauges }
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
        Handle::try_current().map_err(|error| BusError::new(SUBSCRIBE, error))?;
        let (waiting, live) = oneshot::channel();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        // Made first: a call that is dropped while it waits takes its subscription along.
        let (orders, worker) = (self.orders.downgrade(), self.worker.downgrade());
        let subscription = subscription.carried_by(Box::new(Registration { id, orders, worker }));
        let subscriber = Subscriber { id, sender, channels: wanted, waiting: Some(waiting) };
        let submitted = self.orders.send(Order::Subscribe(subscriber)).is_ok();
        if !(submitted && self.worker.poke()) {
            return Err(BusError::new(SUBSCRIBE, "no runtime is left for the task of the subscriptions"));
        }

        // The task has timeouts of its own. This one is for when its runtime stands still.
        let patience = self.server.connect_timeout.saturating_add(self.server.response_timeout);
        // The task tells many callers, one after the other.
        match with_quiet_waker(timeout(patience, live)).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(trouble))) => Err(BusError::new(SUBSCRIBE, trouble)),
            Ok(Err(_)) => Err(BusError::new(SUBSCRIBE, "the task of the subscriptions has ended")),
            Err(_) => Err(BusError::new(SUBSCRIBE, format!("no answer within {patience:?}"))),
        }
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
