use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tower_offload::bus::{SharedBus, Subscription};

use super::{Harness, next, next_payload, unique};
use crate::patience::PATIENCE;

pub(crate) async fn a_subscription_is_live_when_it_is_returned(harness: impl Harness) {
    let bus = harness.bus();
    for round in 0..100 {
        let channel = unique("channel");
        let mut subscription = bus.subscribe(&[&channel]).await.unwrap();
        bus.publish(&channel, &round.to_string()).await.unwrap();
        let message = next(&mut subscription).await;
        assert_eq!((&*message.channel, &*message.payload), (channel.as_str(), round.to_string().as_str()));
    }
}

pub(crate) async fn all_subscribers_hear_everything_in_order(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let mut one = bus.subscribe(&[&channel]).await.unwrap();
    let mut other = bus.subscribe(&[&channel]).await.unwrap();
    for number in 0..200 {
        bus.publish(&channel, &number.to_string()).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(next_payload(&mut one).await, number.to_string());
        assert_eq!(next_payload(&mut other).await, number.to_string());
    }
}

pub(crate) async fn one_subscription_to_many_channels(harness: impl Harness) {
    let (bus, a, b, c) = (harness.bus(), unique("a"), unique("b"), unique("c"));
    let mut subscription = bus.subscribe(&[&a, &b, &c]).await.unwrap();
    for (channel, payload) in [(&b, "1"), (&a, "2"), (&c, "3"), (&a, "4")] {
        bus.publish(channel, payload).await.unwrap();
        let message = next(&mut subscription).await;
        assert_eq!((&*message.channel, &*message.payload), (channel.as_str(), payload));
    }
}

pub(crate) async fn a_channel_named_twice_is_heard_once(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let mut subscription = bus.subscribe(&[&channel, &channel]).await.unwrap();
    for payload in ["1", "2"] {
        bus.publish(&channel, payload).await.unwrap();
        assert_eq!(next_payload(&mut subscription).await, payload);
    }
}

pub(crate) async fn others_are_not_heard(harness: impl Harness) {
    let (bus, mine) = (harness.bus(), unique("channel"));
    let mut subscription = bus.subscribe(&[&mine]).await.unwrap();
    // Also none whose name only begins in the same way, or would match as a pattern.
    for other in [unique("channel"), format!("{mine}:x"), mine[..mine.len() - 1].to_owned(), "*".to_owned()] {
        bus.publish(&other, "other").await.unwrap();
    }
    bus.publish(&mine, "mine").await.unwrap();
    assert_eq!(next_payload(&mut subscription).await, "mine");
}

pub(crate) async fn what_was_published_before_is_not_heard(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let _earlier = bus.subscribe(&[&channel]).await.unwrap();
    bus.publish(&channel, "before").await.unwrap();
    let mut subscription = bus.subscribe(&[&channel]).await.unwrap();
    bus.publish(&channel, "after").await.unwrap();
    assert_eq!(next_payload(&mut subscription).await, "after");
}

pub(crate) async fn a_subscriber_that_leaves_disturbs_nobody(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    bus.publish(&channel, "nobody listens").await.unwrap();
    let first = bus.subscribe(&[&channel]).await.unwrap();
    let mut second = bus.subscribe(&[&channel]).await.unwrap();
    let third = bus.subscribe(&[&channel]).await.unwrap();
    bus.publish(&channel, "1").await.unwrap();
    drop(first);
    bus.publish(&channel, "2").await.unwrap();
    drop(third);
    bus.publish(&channel, "3").await.unwrap();
    for payload in ["1", "2", "3"] {
        assert_eq!(next_payload(&mut second).await, payload);
    }
    drop(second);
    bus.publish(&channel, "nobody listens").await.unwrap();
}

pub(crate) async fn a_dropped_recv_loses_nothing(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let mut subscription = bus.subscribe(&[&channel]).await.unwrap();
    assert!(subscription.recv().now_or_never().is_none());
    bus.publish(&channel, "1").await.unwrap();
    bus.publish(&channel, "2").await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        // Each future is polled once and dropped, whether a message had arrived by then or not.
        if let Some(event) = subscription.recv().now_or_never() {
            heard.push(format!("{event:?}"));
        }
        tokio::task::yield_now().await;
    }
    assert!(heard[0].contains("\"1\"") && heard[1].contains("\"2\""), "{heard:?}");
}

/// A waker that does what it was made for, on each wake.
struct Does<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn waker(does: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Does(does)))
}

/// Lets a subscription wait with another waker than that of its task.
fn poll_with(subscription: &mut Subscription, waker: &Waker) -> bool {
    let mut recv = std::pin::pin!(subscription.recv());
    recv.as_mut().poll(&mut Context::from_waker(waker)).is_ready()
}

/// Publishes from another thread, so that a deadlock ends the test and not the thread that it runs in.
async fn publish_from_elsewhere(bus: &SharedBus, channel: &str, payload: &str) {
    let (bus, channel, payload) = (Arc::clone(bus), channel.to_owned(), payload.to_owned());
    let (runtime, (done, is_done)) = (Handle::current(), oneshot::channel());
    std::thread::spawn(move || {
        runtime.block_on(bus.publish(&channel, &payload)).unwrap();
        let _ = done.send(());
    });
    tokio::time::timeout(PATIENCE, is_done)
        .await
        .expect("publishing ends")
        .expect("publishing does not panic");
}

async fn soon(subscription: &mut Subscription) -> String {
    tokio::time::timeout(PATIENCE, next_payload(subscription)).await.expect("the message comes")
}

pub(crate) async fn a_waker_may_call_the_bus(harness: impl Harness) {
    let (bus, mine, others) = (harness.bus(), unique("channel"), unique("channel"));
    let mut hostile = bus.subscribe(&[&mine]).await.unwrap();
    let mut friendly = bus.subscribe(&[&mine, &others]).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let waker = waker({
        let (bus, mine, others, calls) = (Arc::clone(&bus), mine.clone(), others.clone(), Arc::clone(&calls));
        move || {
            let _ = bus.publish(&others, "from a waker").now_or_never();
            let _ = bus.subscribe(&[&mine]).now_or_never();
            let _ = bus.push(&mine, "{}", None).now_or_never();
            let _ = bus.health();
            calls.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(!poll_with(&mut hostile, &waker));
    publish_from_elsewhere(&bus, &mine, "1").await;
    // First, because a subscription that is read waits with another waker.
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let heard = [soon(&mut friendly).await, soon(&mut hostile).await];
    assert!(heard.contains(&"1".to_owned()), "{heard:?}");
    publish_from_elsewhere(&bus, &mine, "2").await;
    assert_eq!(soon(&mut hostile).await, "2");
}

pub(crate) async fn a_waker_that_panics_costs_nobody_a_message(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let mut hostile = Vec::new();
    let mut friendly = Vec::new();
    // One before the other and the other way round: each order of telling them.
    for _ in 0..3 {
        hostile.push(bus.subscribe(&[&channel]).await.unwrap());
        friendly.push(bus.subscribe(&[&channel]).await.unwrap());
    }
    for round in ["1", "2"] {
        let waker = waker(|| panic!("a waker that panics, as it should"));
        for subscription in &mut hostile {
            assert!(!poll_with(subscription, &waker));
        }
        publish_from_elsewhere(&bus, &channel, round).await;
        for subscription in friendly.iter_mut().chain(&mut hostile) {
            assert_eq!(soon(subscription).await, round);
        }
    }
}

/// What is dropped with its subscription, wherever that is.
struct DropsWith(SharedBus, String);

impl Wake for DropsWith {
    fn wake(self: Arc<Self>) {}
}

impl Drop for DropsWith {
    fn drop(&mut self) {
        let _ = self.0.publish(&self.1, "from a destructor").now_or_never();
        let _ = self.0.subscribe(&[&self.1]).now_or_never();
    }
}

pub(crate) async fn a_waker_may_call_the_bus_when_it_is_dropped(harness: impl Harness) {
    let (bus, channel) = (harness.bus(), unique("channel"));
    let mut friendly = bus.subscribe(&[&channel]).await.unwrap();
    for _ in 0..3 {
        let mut gone = bus.subscribe(&[&channel]).await.unwrap();
        let waker = Waker::from(Arc::new(DropsWith(Arc::clone(&bus), unique("other"))));
        assert!(!poll_with(&mut gone, &waker));
        drop(waker);
        drop(gone);
        publish_from_elsewhere(&bus, &channel, "1").await;
        assert_eq!(soon(&mut friendly).await, "1");
    }
}
