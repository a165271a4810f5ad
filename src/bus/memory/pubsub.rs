use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::subscription::Offer;
use super::super::{Message, PubSub, Result, Subscription, SubscriptionEvent, SubscriptionSender};
use super::MemoryBus;
use super::limits::Shrink;

/// Below this many subscribers nobody looks for those that are gone.
const SWEEP_FROM: usize = 64;

/// Who listens where.
///
/// Nothing here is locked when a [`Subscription`] is dropped: one may be dropped anywhere, also by a waker that a
/// publisher wakes. Instead those that are gone are removed when somebody publishes where they listened, and at
/// the latest when there are twice as many as were left the last time.
#[derive(Debug)]
pub(super) struct Channels {
    subscribers: HashMap<Arc<str>, Vec<SubscriptionSender>>,
    /// Subscribers over all channels, those that are gone included.
    count: usize,
    sweep_at: usize,
    lagged: u64,
}

impl Default for Channels {
    fn default() -> Self {
        Self { subscribers: HashMap::new(), count: 0, sweep_at: SWEEP_FROM, lagged: 0 }
    }
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many messages were lost because a subscriber was too slow.
    pub(super) const fn lagged(&self) -> u64 {
        self.lagged
    }

    pub(super) fn publish(&mut self, channel: &str, payload: &str) {
        let Some((name, _)) = self.subscribers.get_key_value(channel) else { return };
        let message = Message { channel: Arc::clone(name), payload: payload.into() };
        let Some(listeners) = self.subscribers.get_mut(channel) else { return };

        let before = listeners.len();
        listeners.retain(|listener| match listener.offer(SubscriptionEvent::Message(message.clone())) {
            Offer::Taken => true,
            Offer::Lost => {
                self.lagged += 1;
                true
            }
            Offer::Gone => false,
        });
        self.count -= before - listeners.len();
        if listeners.is_empty() {
            self.subscribers.remove(channel);
            self.subscribers.shrink_if_sparse();
        }
    }

    fn subscribe(&mut self, channels: &[&str], capacity: usize) -> Subscription {
        if self.count >= self.sweep_at {
            self.sweep();
            self.sweep_at = (self.count * 2).max(SWEEP_FROM);
        }
        let (sender, subscription) = Subscription::channel(capacity);
        for (position, channel) in channels.iter().enumerate() {
            // Named twice, heard once.
            if channels[..position].contains(channel) {
                continue;
            }
            self.count += 1;
            match self.subscribers.get_mut(*channel) {
                Some(listeners) => listeners.push(sender.clone()),
                None => {
                    self.subscribers.insert((*channel).into(), vec![sender.clone()]);
                }
            }
        }
        subscription
    }

    /// Removes the subscribers that are gone.
    pub(super) fn sweep(&mut self) {
        self.count = 0;
        self.subscribers.retain(|_, listeners| {
            listeners.retain(|listener| !listener.is_closed());
            self.count += listeners.len();
            !listeners.is_empty()
        });
        self.subscribers.shrink_if_sparse();
    }
}

#[async_trait]
impl PubSub for MemoryBus {
    async fn publish(&self, channel: &str, payload: &str) -> Result<()> {
        self.with_channels(|channels| channels.publish(channel, payload));
        Ok(())
    }

    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        let capacity = self.inner.limits.subscriber_capacity;
        Ok(self.with_channels(|all| all.subscribe(channels, capacity)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_those_that_are_gone_are_forgotten_though_nobody_publishes() {
        let mut channels = Channels::default();
        for n in 0..10_000 {
            drop(channels.subscribe(&[&format!("c{n}")], 1));
            assert!(channels.len() <= SWEEP_FROM && channels.count() <= SWEEP_FROM);
        }
        let kept: Vec<_> = (0..1_000).map(|n| channels.subscribe(&[&format!("k{n}")], 1)).collect();
        assert!(channels.count() >= kept.len());
        channels.sweep();
        assert_eq!((channels.len(), channels.count()), (1_000, 1_000));
    }
}
