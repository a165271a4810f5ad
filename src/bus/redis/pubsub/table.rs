use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::take;
use std::sync::Arc;

use redis::PushInfo;
use tokio::sync::oneshot;

use super::super::super::subscription::Offer;
use super::super::super::{BusError, Message, SubscriptionEvent, SubscriptionSender};
use super::super::server::Trouble;
use super::Gauges;
use crate::log_limit::LogLimit;

pub(super) type Id = u64;

/// One subscription to some channels.
pub(super) struct Subscriber {
    pub(super) id: Id,
    pub(super) sender: SubscriptionSender,
    pub(super) channels: Vec<Channel>,
    /// Who waits until the subscription is live.
    pub(super) waiting: Option<oneshot::Sender<Result<(), Trouble>>>,
}

/// A channel by its name on the server, and by the one that it was asked for with.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) on_server: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Who listens where, and what the server has to be told about it.
#[derive(Default)]
pub(super) struct Table {
    subscribers: HashMap<Id, Subscriber>,
    listeners: HashMap<Arc<str>, Vec<Listener>>,
    /// Whose channels the server was not asked for on this connection.
    unasked: VecDeque<Id>,
    /// Channels that the server still sends on this connection, and that have no subscriber any more.
    stale: HashSet<Arc<str>>,
}

struct Listener {
    id: Id,
    name: Arc<str>,
    sender: SubscriptionSender,
    /// Whether the server has acknowledged it, on this connection and after it was asked for by this subscriber: what
    /// was published before is not for it, though others may have listened already.
    live: bool,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) fn add(&mut self, subscriber: Subscriber) {
        let id = subscriber.id;
        for channel in &subscriber.channels {
            let Channel { on_server, name } = channel.clone();
            self.stale.remove(&on_server);
            let listener = Listener { id, name, sender: subscriber.sender.clone(), live: false };
            self.listeners.entry(on_server).or_default().push(listener);
        }
        self.subscribers.insert(id, subscriber);
        self.unasked.push_back(id);
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Subscriber> {
        let subscriber = self.subscribers.remove(&id)?;
        for channel in &subscriber.channels {
            let Some(listeners) = self.listeners.get_mut(&channel.on_server) else { continue };
            listeners.retain(|listener| listener.id != id);
            if listeners.is_empty() {
                self.listeners.remove(&channel.on_server);
                self.stale.insert(Arc::clone(&channel.on_server));
            }
        }
        Some(subscriber)
    }

    /// The next subscriber to ask the server for, and its channels.
    pub(super) fn next_unasked(&mut self) -> Option<(Id, Vec<Arc<str>>)> {
        while let Some(id) = self.unasked.pop_front() {
            if let Some(subscriber) = self.subscribers.get(&id) {
                let channels = subscriber.channels.iter();
                return Some((id, channels.map(|channel| Arc::clone(&channel.on_server)).collect()));
            }
        }
        None
    }

    pub(super) fn has_unasked(&self) -> bool {
        !self.unasked.is_empty()
    }

    pub(super) fn take_stale(&mut self) -> Vec<Arc<str>> {
        take(&mut self.stale).into_iter().collect()
    }

    /// The server has acknowledged a channel that it was asked for by this subscriber.
    pub(super) fn acknowledge(&mut self, id: Id, channel: &str) {
        let listeners = self.listeners.get_mut(channel).into_iter().flatten();
        listeners.filter(|listener| listener.id == id).for_each(|listener| listener.live = true);
    }

    /// Whether all channels of a subscriber are acknowledged; so they are if it is gone.
    pub(super) fn is_acknowledged(&self, id: Id) -> bool {
        let channels = self.subscribers.get(&id).map(|subscriber| &subscriber.channels);
        channels.into_iter().flatten().all(|channel| {
            let mut listeners = self.listeners.get(&channel.on_server).into_iter().flatten();
            listeners.any(|listener| listener.id == id && listener.live)
        })
    }

    /// All channels of a subscriber are acknowledged. This completes the call that subscribes. A subscriber from before
    /// the connection was lost is told that it may have missed messages.
    pub(super) fn complete(&mut self, id: Id) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        match subscriber.waiting.take() {
            Some(waiting) => {
                // If it is gone its subscription is too, and that will be told.
                let _ = waiting.send(Ok(()));
            }
            None => {
                subscriber.sender.send(SubscriptionEvent::Lagged(0));
            }
        }
    }

    /// Ends a subscription that the server refuses.
    pub(super) fn refuse(&mut self, id: Id, trouble: &Trouble) {
        let Some(subscriber) = self.remove(id) else { return };
        match subscriber.waiting {
            Some(waiting) => drop(waiting.send(Err(trouble.clone()))),
            None => {
                let error = BusError::new("subscribe again to channels", trouble.clone());
                subscriber.sender.send(SubscriptionEvent::Error(error));
            }
        }
    }

    /// Refuses those who still wait. Who was subscribed already stays so.
    pub(super) fn refuse_waiting(&mut self, trouble: &Trouble) {
        let waiting = self.subscribers.iter().filter(|(_, subscriber)| subscriber.waiting.is_some());
        let ids: Vec<Id> = waiting.map(|(id, _)| *id).collect();
        for id in ids {
            self.refuse(id, trouble);
        }
    }

    /// The connection is gone, and all that the server knew with it.
    pub(super) fn disconnect(&mut self) {
        self.listeners.values_mut().flatten().for_each(|listener| listener.live = false);
        self.stale.clear();
        let mut ids: Vec<Id> = self.subscribers.keys().copied().collect();
        ids.sort_unstable();
        self.unasked = ids.into();
    }

    /// Passes a message to all subscribers of its channel. One that is not text comes from another program: it is skipped.
    pub(super) fn publish(&self, push: PushInfo, gauges: &Gauges) {
        let Some([channel, payload]) = texts(push) else {
            static LINES: LogLimit = LogLimit::new();
            LINES.write(|left_out| {
                tracing::warn!(left_out, "a message that is not UTF-8 text was skipped");
            });
            return;
        };
        let payload: Arc<str> = payload.into();
        for listener in self.listeners.get(&*channel).into_iter().flatten().filter(|listener| listener.live) {
            let message = Message { channel: Arc::clone(&listener.name), payload: Arc::clone(&payload) };
            if listener.sender.offer(SubscriptionEvent::Message(message)) == Offer::Lost {
                gauges.count_lagged();
            }
        }
    }
}

/// What comes with a push, as texts.
pub(super) fn texts<const N: usize>(push: PushInfo) -> Option<[String; N]> {
    let mut data = push.data.into_iter();
    let texts = std::array::from_fn(|_| data.next().and_then(|value| redis::from_redis_value(value).ok()));
    let texts: [Option<String>; N] = texts;
    texts.iter().all(Option::is_some).then(|| texts.map(Option::unwrap_or_default))
}
