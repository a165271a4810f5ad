use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::subscription::Offer;
use super::super::{Message, PubSub, Result, Subscription, SubscriptionEvent, SubscriptionSender};
use super::MemoryBus;
use super::limits::Shrink;

/// Below this many subscribers a sweep for those that are gone is not worth it.
const SWEEP_FROM: usize = 64;

/// Who listens where.
///
/// Messages are sent outside of the lock, because they wake subscribers, and a waker is user code that may call the bus.
/// What is removed is dropped outside of it too. And a [`Subscription`] that is dropped takes no lock: it may be dropped
/// by a waker that a publisher wakes. Instead those that are gone are removed after a message has not reached them, and
/// at the latest when there are twice as many as were left the last time.
#[derive(Debug)]
pub(super) struct Channels {
    subscribers: HashMap<Arc<str>, Listeners>,
    /// Subscribers over all channels, those that are gone included.
    count: usize,
    sweep_at: usize,
    lagged: u64,
}

/// Shared with those that publish at the moment.
type Listeners = Arc<Vec<SubscriptionSender>>;

/// What was removed, to be dropped outside of the lock.
#[must_use]
#[derive(Debug, Default)]
pub(super) struct Removed(Vec<Listeners>);

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

    fn listeners(&self, channel: &str) -> Option<(Arc<str>, Listeners)> {
        let (name, listeners) = self.subscribers.get_key_value(channel)?;
        Some((Arc::clone(name), Arc::clone(listeners)))
    }

    fn subscribe(&mut self, channels: &[&str], sender: &SubscriptionSender) -> Removed {
        let mut removed = Removed::default();
        if self.count >= self.sweep_at {
            removed = self.sweep();
            self.sweep_at = (self.count * 2).max(SWEEP_FROM);
        }
        for (position, channel) in channels.iter().enumerate() {
            // Named twice, heard once.
            if channels[..position].contains(channel) {
                continue;
            }
            self.count += 1;
            match self.subscribers.get_mut(*channel) {
                // Copied if a message is being sent: it is for the subscribers before this one.
                Some(listeners) => match Arc::get_mut(listeners) {
                    Some(listeners) => listeners.push(sender.clone()),
                    None => {
                        let more = listeners.iter().chain([sender]).cloned().collect();
                        removed.0.push(std::mem::replace(listeners, Arc::new(more)));
                    }
                },
                None => {
                    self.subscribers.insert((*channel).into(), Arc::new(vec![sender.clone()]));
                }
            }
        }
        removed
    }

    /// Removes the subscribers that are gone.
    pub(super) fn sweep(&mut self) -> Removed {
        let channels: Vec<Arc<str>> = self.subscribers.keys().cloned().collect();
        channels.iter().fold(Removed::default(), |mut removed, channel| {
            removed.0.extend(self.sweep_channel(channel));
            removed
        })
    }

    fn sweep_channel(&mut self, channel: &str) -> Option<Listeners> {
        let listeners = self.subscribers.get_mut(channel)?;
        if !listeners.iter().any(SubscriptionSender::is_closed) {
            return None;
        }
        let left: Vec<_> = listeners.iter().filter(|listener| !listener.is_closed()).cloned().collect();
        self.count -= listeners.len() - left.len();
        let is_empty = left.is_empty();
        let removed = std::mem::replace(listeners, Arc::new(left));
        if is_empty {
            self.subscribers.remove(channel);
            self.subscribers.shrink_if_sparse();
        }
        Some(removed)
    }
}

impl MemoryBus {
    pub(super) fn publish_now(&self, channel: &str, payload: &str) {
        let Some((name, listeners)) = self.with_channels(|channels| channels.listeners(channel)) else {
            return;
        };
        let message = Message { channel: name, payload: payload.into() };
        let (mut lagged, mut gone) = (0, false);
        for listener in &*listeners {
            match listener.offer(SubscriptionEvent::Message(message.clone())) {
                Offer::Taken => {}
                Offer::Lost => lagged += 1,
                Offer::Gone => gone = true,
            }
        }
        // The last reference but that of the channel, unless another call publishes too: then no copy is needed.
        drop(listeners);
        if lagged > 0 || gone {
            let _removed = self.with_channels(|channels| {
                channels.lagged += lagged;
                gone.then(|| channels.sweep_channel(channel))
            });
        }
    }
}

#[async_trait]
impl PubSub for MemoryBus {
    async fn publish(&self, channel: &str, payload: &str) -> Result<()> {
        self.publish_now(channel, payload);
        Ok(())
    }

    async fn subscribe(&self, channels: &[&str]) -> Result<Subscription> {
        let (sender, subscription) = Subscription::channel(self.inner.limits.subscriber_capacity);
        let _removed = self.with_channels(|all| all.subscribe(channels, &sender));
        Ok(subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(channels: &mut Channels, channel: &str) -> Subscription {
        let (sender, subscription) = Subscription::channel(1);
        drop(channels.subscribe(&[channel], &sender));
        subscription
    }

    #[test]
    fn channels_of_those_that_are_gone_are_forgotten_though_nobody_publishes() {
        let mut channels = Channels::default();
        for n in 0..10_000 {
            drop(subscribe(&mut channels, &format!("c{n}")));
            assert!(channels.len() <= SWEEP_FROM && channels.count() <= SWEEP_FROM);
        }
        let kept: Vec<_> = (0..1_000).map(|n| subscribe(&mut channels, &format!("k{n}"))).collect();
        assert!(channels.count() >= kept.len());
        drop(channels.sweep());
        assert_eq!((channels.len(), channels.count()), (1_000, 1_000));
    }
}
