use std::convert::Infallible;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::super::trouble::{Backoff, in_time};
use super::super::{SharedBus, SubscriptionEvent, keys};

/// Tells `signal` whenever there may be something in the queue, and subscribes as often as it takes.
pub(super) async fn listen(bus: &SharedBus, signal: &Notify) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        match in_time("listen for wakeups", bus.subscribe(&[keys::WAKEUP_SIGNAL])).await {
            Ok(mut subscription) => {
                let since = Instant::now();
                // What was signalled before was not heard.
                signal.notify_one();
                while let Some(event) = subscription.recv().await {
                    if let SubscriptionEvent::Error(error) = event {
                        tracing::warn!(%error, "listening for wakeups");
                    }
                    // A message, or the news that some are missing: the same reason to look.
                    signal.notify_one();
                }
                tracing::warn!("the bus ended the subscription to wakeups; subscribing again");
                if since.elapsed() > Backoff::longest() {
                    backoff.reset();
                }
            }
            Err(error) => tracing::warn!(%error, "listening for wakeups"),
        }
        sleep(backoff.pause()).await;
    }
}
