//! What a process says about its connection.

use std::error::Error;
use std::time::{Duration, SystemTime};

use tower_offload::RedisBus;
use tower_offload::TaskManager;

use crate::process::{Process, json};
use crate::redis_server::RedisServer;
use crate::support::alice;
use crate::world::{ALL, ANSWER, Outage, World, in_each, until};

/// Two clocks are compared, and times are rounded.
const GRAIN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_what_is_connected_and_since_when() {
    in_each(&ALL, async |outage| {
        let mut world = World::new(outage).await;
        let task = world.one.offload().await;
        world.one.is_well().await;
        let well = world.one.health();
        assert!(well.bus.connected && well.bus.since.is_some() && well.bus.last_error.is_none());
        assert_eq!((well.waiting_records, well.waiting_results, well.waiting_since), (0, 0, None));

        let lost = SystemTime::now();
        world.begin();
        let id = task.end("done");
        world.one.ends_wait(1).await;
        until("it is noticed", async || !world.one.health().bus.connected).await;
        let (away, noticed) = (world.one.health(), SystemTime::now());
        // Since the first request without an answer, and not since its response timeout.
        let since = away.bus.since.unwrap();
        let waited = if outage == Outage::Stalled { ANSWER } else { Duration::ZERO };
        assert!(since + GRAIN > lost && since + waited < noticed + GRAIN, "{away:?}");
        let error = away.bus.last_error.clone().unwrap();
        assert!(error.starts_with("Redis at 127.0.0.1:"), "{error}");
        let waiting = away.waiting_since.unwrap();
        assert!(waiting + GRAIN > lost && !away.is_well());
        assert_eq!((away.waiting_records, away.waiting_results), (1, 1));
        // It goes on being the same time, however often it is tried.
        let more = world.one.offload().await;
        until("it waits too", async || world.one.health().waiting_records == 2).await;
        assert_eq!(world.one.health().waiting_since, Some(waiting));

        let back = SystemTime::now();
        world.end();
        world.one.is_well().await;
        let well = world.one.health();
        assert!(well.bus.since.unwrap() + GRAIN > back && well.bus.last_error.is_none());
        assert_eq!(world.one.status(id).await, Some(tower_offload::TaskStatus::Completed));
        drop(more);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_nowhere() {
    const PASSWORD: &str = "hunter2-and-more";
    let mut server = RedisServer::with(&["--requirepass", PASSWORD]);
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port());
    let build =
        |url: &str| RedisBus::builder(url).connect_timeout(ANSWER).response_timeout(ANSWER).build().unwrap();
    let process = Process::start(build(&url), TaskManager::builder()).await;
    let task = process.offload().await;
    process.is_well().await;
    let mut said = vec![format!("{:?} {:?} {:?}", process.bus, process.manager, process.health())];
    server.stop();
    task.end("done");
    until("it is noticed", async || !process.health().bus.connected).await;
    let wrong =
        Process::deaf(build(&url), TaskManager::builder().bus(std::sync::Arc::new(build(&url))).build());
    for process in [&process, &wrong] {
        let error = process.manager.list(&alice()).await.unwrap_err();
        said.push(format!("{error} {error:?} {:?}", error.source().map(ToString::to_string)));
        said.push(json(process.request("/background-tasks").await).await.to_string());
        said.push(format!("{:?} {:?} {:?}", process.bus, process.bus.stats(), process.health()));
    }
    server.restart();
    let refused = build(&url.replace(PASSWORD, &format!("{PASSWORD}-not")));
    said.push(format!("{:?}", RedisBus::builder(&*url).connect().await));
    let manager = TaskManager::builder().bus(std::sync::Arc::new(refused)).build();
    said.push(format!("{:?} {:?}", manager.list(&alice()).await, manager.health()));
    for text in said {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    process.is_well().await;
}
