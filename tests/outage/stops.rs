//! Stops from other processes.

use std::time::{Duration, Instant};

use tower_offload::TaskManager;
use tower_offload::TaskStatus::{Cancelled, Running};
use tower_offload::bus::keys;
use tower_offload::manager::StopOutcome;

use crate::world::{ALL, Outage, World, in_each, until};

/// The longest lease. The owner of a task looks for missed stops three times in it, and at once when it is connected
/// again.
const LEASE: Duration = Duration::from_secs(300);
/// A stop that takes this long was found by the next look.
const LOOK: Duration = Duration::from_secs(100);

async fn stops_are_heard_again(outage: Outage) {
    let mut world = World::with(outage, || TaskManager::builder().lease(LEASE)).await;
    let (missed, late, kept) =
        (world.one.offload().await, world.one.offload().await, world.one.offload().await);
    world.one.is_well().await;
    let subscribed = world.one.bus.stats().resubscriptions;
    world.begin();
    if matches!(outage, Outage::Cut | Outage::Stalled) {
        assert_eq!(world.other.stop(missed.id).await.unwrap(), StopOutcome::RequestedElsewhere);
        // A read finds out that the server is away; the lease is not renewed so soon.
        assert_eq!(world.one.seen().await, None);
        assert_eq!(world.one.manager.stats().running, 3);
        assert_eq!(world.other.status(missed.id).await, Some(Running));
    } else {
        world.other.stop(missed.id).await.unwrap_err();
    }
    world.end();
    let back = Instant::now();
    if matches!(outage, Outage::Cut | Outage::Stalled) {
        // When it is connected again, and not with the next look.
        until("it is honoured", async || world.other.status(missed.id).await == Some(Cancelled)).await;
        assert!(back.elapsed() < LOOK, "{:?}", back.elapsed());
    }

    // Over publish and subscribe again.
    until("it listens", async || world.one.bus.stats().resubscriptions > subscribed).await;
    until("it is registered", async || world.other.status(late.id).await == Some(Running)).await;
    until("both listen", async || world.listeners(keys::TASK_CANCEL) == 2).await;
    let asked = Instant::now();
    assert_eq!(world.other.stop(late.id).await.unwrap(), StopOutcome::RequestedElsewhere);
    until("it is stopped", async || world.other.status(late.id).await == Some(Cancelled)).await;
    assert!(asked.elapsed() < LOOK, "{:?}", asked.elapsed());
    assert_eq!(world.other.status(kept.id).await, Some(Running));
    drop((missed, late));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_are_heard_when_it_is_back() {
    in_each(&ALL, stops_are_heard_again).await;
}
