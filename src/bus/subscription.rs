use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, mpsc};

use super::BusError;
use crate::panics::with_quiet_waker;

/// What was published, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The channel.
    pub channel: Arc<str>,
    /// The payload, as published.
    pub payload: Arc<str>,
}

impl Message {
    /// A message that was published on `channel`.
    pub fn new(channel: impl Into<Arc<str>>, payload: impl Into<Arc<str>>) -> Self {
        Self { channel: channel.into(), payload: payload.into() }
    }
}

/// What a [`Subscription`] yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscriptionEvent {
    /// A message.
    Message(Message),
    /// So many messages were lost because this subscriber was too slow, or an unknown number (0) while the
    /// connection was down. Read again what the messages were about.
    Lagged(u64),
    /// The bus reports trouble. The subscription goes on if it can; if it cannot it ends.
    Error(BusError),
}

/// A live subscription. Dropping it ends it.
///
/// It belongs to no runtime: it may be made on one and read on another. When the runtime that carries the connection of a
/// bus ends or stands still, the bus connects again on one that the subscription is read on, and the reader hears
/// [`Lagged(0)`](SubscriptionEvent::Lagged).
pub struct Subscription {
    events: mpsc::Receiver<SubscriptionEvent>,
    lost: Arc<AtomicU64>,
    /// Dropped after `events`, so that the subscriber is gone by then.
    carrier: Option<Box<dyn Carrier>>,
}

/// What brings the events of a subscription. It is dropped with the subscription.
pub(super) trait Carrier: Send + Sync {
    /// The subscription is read on the current runtime.
    fn poke(&self);
}

impl Subscription {
    /// A subscription that can hold `capacity` events that were not received yet, and its sending half, for those
    /// who write a bus. The capacity is at least 1; what does not fit is counted and told as
    /// [`SubscriptionEvent::Lagged`].
    #[must_use]
    pub fn channel(capacity: usize) -> (SubscriptionSender, Self) {
        // Above its own maximum tokio panics.
        let (sender, events) = mpsc::channel(capacity.clamp(1, Semaphore::MAX_PERMITS));
        let lost = Arc::new(AtomicU64::new(0));
        (SubscriptionSender { sender, lost: Arc::clone(&lost) }, Self { events, lost, carrier: None })
    }

    #[cfg(feature = "redis")]
    pub(super) fn carried_by(self, carrier: Box<dyn Carrier>) -> Self {
        Self { carrier: Some(carrier), ..self }
    }

    /// The next event; `None` when the bus is gone. Nothing is lost when the returned future is dropped.
    pub async fn recv(&mut self) -> Option<SubscriptionEvent> {
        // What is lost is told before what comes after it: the queue was full, so its front is older, but a reader
        // that reads everything again on `Lagged` only gains from hearing it early.
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => {
                if let Some(carrier) = &self.carrier {
                    carrier.poke();
                }
                // Senders tell many subscribers, one after the other.
                with_quiet_waker(self.events.recv()).await
            }
            lost => Some(SubscriptionEvent::Lagged(lost)),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.events.len()).finish_non_exhaustive()
    }
}

/// The half of a [`Subscription`] that a bus keeps.
#[derive(Clone, Debug)]
pub struct SubscriptionSender {
    sender: mpsc::Sender<SubscriptionEvent>,
    lost: Arc<AtomicU64>,
}

impl SubscriptionSender {
    /// Sends without waiting. When the subscriber is too slow the event is dropped and counted, and the subscriber
    /// is told. `false`: the subscriber is gone.
    pub fn send(&self, event: SubscriptionEvent) -> bool {
        self.offer(event) != Offer::Gone
    }

    /// The same, for those who want to know what was lost.
    pub(crate) fn offer(&self, event: SubscriptionEvent) -> Offer {
        match self.sender.try_send(event) {
            Ok(()) => Offer::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                Offer::Lost
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Offer::Gone,
        }
    }

    /// Whether the subscriber is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    Lost,
    Gone,
}
