use futures_util::FutureExt;

use super::{Harness, next, next_payload, unique};

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
