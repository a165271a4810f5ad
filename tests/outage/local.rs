//! What happens here is right here at once, and everywhere when the server is back.

use std::time::Duration;

use tower_offload::TaskStatus::{Cancelled, Completed, Running};
use tower_offload::manager::StopOutcome;

use crate::process::told;
use crate::world::{ALL, World, always, in_each, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_meanwhile_is_told_when_it_is_back() {
    in_each(&ALL, async |outage| {
        let mut world = World::new(outage).await;
        let (ends, stops, lives) =
            (world.one.offload().await, world.one.offload().await, world.one.offload().await);
        let elsewhere = world.other.offload().await;
        let before = [ends.id, stops.id, lives.id, elsewhere.id].map(|id| (id, Running));
        world.one.is_well().await;
        // One after the other, so that their order is known.
        world.other.shows(&before).await;

        world.begin();
        let brief = world.one.offload().await;
        let late = world.one.offload().await;
        let (ends, brief) = (ends.end("one"), brief.end("two"));
        assert_eq!(world.one.stop(stops.id).await.unwrap(), StopOutcome::Requested);
        world.one.ends_wait(3).await;
        // No end counts that other processes cannot see.
        assert_eq!(world.one.stop(stops.id).await.unwrap(), StopOutcome::Requested);
        let stats = world.one.manager.stats();
        assert_eq!((stats.running, stats.completed, stats.cancelled, stats.active), (5, 0, 0, 5));

        until("it is noticed", async || !world.one.health().bus.connected).await;
        // While attempts are under way too.
        always(Duration::from_millis(1_500), async || {
            let health = world.one.health();
            assert_eq!((health.waiting_records, health.waiting_results), (4, 3));
            assert!(health.waiting_since.is_some() && !health.is_well());
        })
        .await;

        world.end();
        let after = [
            (ends, Completed),
            (stops.id, Cancelled),
            (lives.id, Running),
            (elsewhere.id, Running),
            (brief, Completed),
            (late.id, Running),
        ];
        // What is new is in no order that two processes could know beforehand, but behind what was there.
        until("the others see it", async || {
            let Some(mut seen) = world.other.seen().await else { return false };
            seen.get_mut(4..).into_iter().for_each(|new| new.sort_by_key(|(_, status)| *status != Completed));
            seen == after
        })
        .await;
        world.one.is_well().await;
        // After a loss each of them registers what it runs, and they do not wait for each other.
        until("both see the same", async || world.one.seen().await == world.other.seen().await).await;
        let (hints, wakeups) = world.other.delivered().await;
        assert_eq!((hints.len(), wakeups), (2, 2));
        assert_eq!((told(&hints, ends), told(&hints, brief)), (1, 1));
        assert_eq!(world.one.manager.stats().undelivered, 0);

        // And on it goes.
        let (lives, late) = (lives.end("three"), late.end("four"));
        let (mut hints, mut wakeups) = (Vec::new(), 0);
        until("they are told", async || {
            let (more, woken) = world.other.delivered().await;
            hints.extend(more);
            wakeups += woken;
            hints.len() >= 2
        })
        .await;
        assert_eq!((hints.len(), wakeups, told(&hints, lives), told(&hints, late)), (2, 2, 1, 1));
        drop(elsewhere);
    })
    .await;
}
