//! A process that is cut off alone for longer than its lease.

use tower_offload::TaskStatus::{Failed, Running};
use tower_offload::task::FailureReason;

use crate::process::told;
use crate::support::alice;
use crate::world::{Outage, World, in_each, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_away_alone_is_lost_and_stays_so() {
    in_each(&[Outage::Cut, Outage::Stalled], async |outage| {
        let mut world = World::short_lived(outage).await;
        let (lost, ends) = (world.one.offload().await, world.one.offload().await);
        let lives = world.other.offload().await;
        world.one.is_well().await;
        world.other.is_well().await;
        let ids = [lost.id, ends.id, lives.id];
        world.begin();
        world.other.shows(&[(ids[0], Failed), (ids[1], Failed), (ids[2], Running)]).await;
        let seen = world.other.manager.list(&alice()).await.unwrap();
        assert_eq!(seen[0].failure_reason, Some(FailureReason::WorkerLost));
        // Here it completes, before anybody here can know.
        ends.end("too late");
        world.one.ends_wait(1).await;
        let mut hints = Vec::new();
        until("the session is told", async || {
            hints.extend(world.other.delivered().await.0);
            hints.len() >= 2
        })
        .await;

        world.end();
        until("it is stopped here", async || world.one.manager.stats().active == 0).await;
        world.one.shows(&[(ids[0], Failed), (ids[1], Failed), (ids[2], Running)]).await;
        assert_eq!(world.one.manager.list(&alice()).await.unwrap(), seen);
        assert_eq!(world.other.manager.list(&alice()).await.unwrap(), seen);
        // The work that was stopped is late; the end that was not published never counted.
        assert_eq!(world.one.manager.stats().late, 1);
        hints.extend(world.other.delivered().await.0);
        assert_eq!((hints.len(), told(&hints, ids[0]), told(&hints, ids[1])), (2, 1, 1), "{hints:?}");
        assert!(hints.iter().all(|hint| hint.contains("the process that ran it is gone")));

        // New ones are as good as any.
        let new = world.one.offload().await;
        until("it is there", async || world.other.status(new.id).await == Some(Running)).await;
        world.one.is_well().await;
        drop((lost, lives));
    })
    .await;
}
