//! A server that has lost its data: what lives is registered again.

use std::sync::Arc;
use std::time::Duration;

use tower_offload::TaskManager;
use tower_offload::TaskStatus::{Completed, Failed, Running};
use tower_offload::bus::{Registry, keys};

use crate::process::{Process, told};
use crate::proxy::{Proxy, Way};
use crate::support::alice;
use crate::world::{LEASE, Outage, World, always, impatient, patient, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lives_is_registered_again() {
    let mut world = World::short_lived(Outage::Emptied).await;
    let first = world.one.offload().await;
    let ended = world.one.offload().await;
    let second = world.one.offload().await;
    let ends = world.one.offload().await;
    let third = world.one.offload().await;
    let ended = ended.end("long ago");
    world.one.is_well().await;
    world
        .other
        .shows(&[
            (first.id, Running),
            (ended, Completed),
            (second.id, Running),
            (ends.id, Running),
            (third.id, Running),
        ])
        .await;
    assert_eq!(world.other.delivered().await.0.len(), 1);
    let before = world.other.manager.list(&alice()).await.unwrap();

    world.begin();
    world.end();
    // Between the loss and the registration.
    let ends = ends.end("meanwhile");
    // In their old order, and without the one that was over: nobody knows it any more.
    let after = [(first.id, Running), (second.id, Running), (ends, Completed), (third.id, Running)];
    world.other.shows(&after).await;
    let listed = world.other.manager.list(&alice()).await.unwrap();
    for task in listed.iter().filter(|task| task.id != ends) {
        assert!(before.contains(task), "{task:?}");
    }
    world.one.shows(&after).await;
    world.one.is_well().await;
    let mut entries: Vec<_> = world.other.bus.get_all(&keys::background_tasks("s1")).await.unwrap();
    let mut live = [first.id, second.id, third.id].map(|id| id.to_string());
    entries.sort();
    live.sort();
    assert_eq!(entries.iter().map(|(id, _)| id).collect::<Vec<_>>(), live.iter().collect::<Vec<_>>());
    let (hints, wakeups) = world.other.delivered().await;
    assert_eq!((hints.len(), wakeups, told(&hints, ends)), (1, 1, 1));

    // Their last wills were registered too.
    world.proxy.set(Way::Cut);
    world
        .other
        .shows(&[(first.id, Failed), (second.id, Failed), (ends, Completed), (third.id, Failed)])
        .await;
    let mut all = Vec::new();
    until("the session is told", async || {
        all.extend(world.other.delivered().await.0);
        all.len() >= 3
    })
    .await;
    assert!([first.id, second.id, third.id].iter().all(|id| told(&all, *id) == 1), "{all:?}");
}

/// The tasks of before come first, whoever is registered first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_comes_behind_what_was_there() {
    let mut world = World::short_lived(Outage::Emptied).await;
    let old = [world.one.offload().await, world.one.offload().await, world.one.offload().await];
    world.one.is_well().await;
    world.begin();
    let new = world.one.offload().await;
    world.end();
    let newer = world.other.offload().await;
    world.other.is_well().await;
    let mut order: Vec<_> = old.iter().map(|task| (task.id, Running)).collect();
    order.extend([(new.id, Running), (newer.id, Running)]);
    until("all are there", async || world.other.seen().await.is_some_and(|seen| seen.len() == 5)).await;
    let mut seen = world.other.seen().await.unwrap();
    // Who of two processes was first is not known.
    seen[3..].sort_by_key(|(id, _)| *id == newer.id);
    assert_eq!(seen, order);
}

/// A process that listens for nothing is told by nobody that its connection was lost.
fn deaf(world: &World, lease: Duration) -> Process {
    let bus = impatient(world.proxy.url());
    let manager = TaskManager::builder().lease(lease).bus(Arc::new(bus.clone())).build();
    Process::deaf(bus, manager)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_listens_for_nothing_registers_again() {
    let mut world = World::short_lived(Outage::Emptied).await;
    let deaf = deaf(&world, LEASE);
    let task = deaf.offload().await;
    deaf.is_well().await;
    world.begin();
    world.end();
    world.other.shows(&[(task.id, Running)]).await;
}

/// The answer that says that the lease had ended is the one that gets lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_noticed_also_when_the_answer_that_says_so_is_lost() {
    let world = World::short_lived(Outage::Emptied).await;
    let deaf = deaf(&world, LEASE);
    let task = deaf.offload().await;
    deaf.is_well().await;
    let mut plain = redis::Client::open(world.server.url()).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut plain).unwrap();
    world.server.pause();
    // The next renewal is taken, and not answered in time.
    until("it is noticed", async || !deaf.health().bus.connected).await;
    world.server.resume();
    until("it is back", async || deaf.health().bus.connected).await;
    world.other.shows(&[(task.id, Running)]).await;
}

/// A server that was away for longer than a lease, and has kept its data, costs nobody anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_do_not_end_while_the_server_is_away() {
    let mut world = World::short_lived(Outage::Stopped).await;
    let tasks = [world.one.offload().await, world.other.offload().await];
    let running = [(tasks[0].id, Running), (tasks[1].id, Running)];
    world.one.is_well().await;
    world.other.is_well().await;
    world.begin();
    always(LEASE * 3 / 2, async || assert_eq!(world.other.seen().await, None)).await;
    world.end();
    // From the first read on, also of a process that was not there before.
    let third = Process::start(patient(world.server.url()), TaskManager::builder().lease(LEASE)).await;
    let mut reads = 0;
    always(LEASE * 2, async || {
        for process in [&world.one, &world.other, &third] {
            if let Some(mut seen) = process.seen().await {
                seen.sort_by_key(|(id, _)| *id != tasks[0].id);
                assert_eq!(seen, running);
                reads += 1;
            }
        }
    })
    .await;
    assert!(reads > 10);
    assert_eq!(world.other.delivered().await, (Vec::new(), 0));
    world.one.is_well().await;
}

/// A process that could not connect until now knows no more than one that has lost its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_from_the_beginning_judges_nobody() {
    let mut world = World::short_lived(Outage::Cut).await;
    let task = world.one.offload().await;
    world.one.is_well().await;
    let proxy = Proxy::to(world.server.port()).await;
    proxy.set(Way::Cut);
    let third = impatient(proxy.url());
    let manager = TaskManager::builder().lease(LEASE).bus(Arc::new(third.clone())).build();
    let third = Process::deaf(third, manager);
    world.begin();
    always(LEASE * 3 / 2, async || assert_eq!(third.seen().await, None)).await;
    proxy.set(Way::Pass);
    until("it can read", async || third.seen().await.is_some()).await;
    assert_eq!(third.seen().await.unwrap(), [(task.id, Running)]);
    world.end();
    world.one.is_well().await;
    always(LEASE, async || assert_eq!(third.seen().await.unwrap(), [(task.id, Running)])).await;
}

/// The same for one that stood still, and has lost no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_do_not_end_while_the_server_stands_still() {
    let world = World::short_lived(Outage::Stopped).await;
    let tasks = [world.one.offload().await, world.other.offload().await];
    world.one.is_well().await;
    world.other.is_well().await;
    world.server.pause();
    always(LEASE * 3 / 2, async || assert_eq!(world.one.manager.stats().running, 1)).await;
    // One reads at the very moment when it goes on.
    let scope = alice();
    let (read, ()) = tokio::join!(world.other.manager.list(&scope), async { world.server.resume() });
    for task in read.into_iter().flatten() {
        assert_eq!(task.status, Running);
    }
    always(LEASE * 3 / 2, async || {
        for (_, status) in world.other.seen().await.into_iter().flatten() {
            assert_eq!(status, Running);
        }
    })
    .await;
    assert_eq!(world.other.seen().await.map(|seen| seen.len()), Some(2));
    drop(tasks);
}
