//! A server that takes two seconds for each answer, and everything as it is by default.

use std::time::Duration;

use tower_offload::TaskStatus::{Cancelled, Completed, Running};
use tower_offload::bus::Registry;
use tower_offload::manager::StopOutcome;
use tower_offload::{RedisBus, TaskManager};

use crate::foreground::calls_are_answered;
use crate::process::Process;
use crate::proxy::{Proxy, Way};
use crate::redis_server::RedisServer;
use crate::support::{alice, meta};
use crate::world::{always, patient, until};

/// In each direction.
const SLOW: Way = Way::Delay(Duration::from_secs(1));

async fn on_a_slow_server() -> (RedisServer, Proxy, Process, Process) {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let other = Process::start(patient(server.url()), TaskManager::builder()).await;
    // The server knows the scripts.
    other.manager.spawn(tower_offload::TaskMeta::new("bob", "work"), async {}).unwrap();
    other.is_well().await;
    let slow = RedisBus::builder(proxy.url()).build().unwrap();
    let one = Process::start(slow, TaskManager::builder()).await;
    proxy.set(SLOW);
    (server, proxy, one, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_works_on_a_fast_one_works() {
    let (_server, _proxy, one, other) = on_a_slow_server().await;
    let (ends, stops, lives) = (one.offload().await, one.offload().await, one.offload().await);
    calls_are_answered(&one).await;
    let ends = ends.end("done");
    until("it is written", async || other.status(ends).await == Some(Completed)).await;
    assert_eq!(other.stop(stops.id).await.unwrap(), StopOutcome::RequestedElsewhere);
    until("it is stopped", async || other.status(stops.id).await == Some(Cancelled)).await;
    until("it is told", async || one.health().waiting_results == 0).await;
    let (hints, _) = other.delivered().await;
    assert_eq!(crate::process::told(&hints, ends), 1);

    let response = one.request("/background-tasks").await;
    assert_eq!(response.status(), 200);
    let body = crate::process::json(response).await;
    assert_eq!(body["total"], other.manager.list(&alice()).await.unwrap().len());

    // Longer than a lease: no process is taken for dead.
    always(Duration::from_secs(17), async || assert_eq!(other.status(lives.id).await, Some(Running))).await;
}

/// More than fits through in the time for one answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_become_as_small_as_it_takes() {
    const TASKS: usize = 300;
    let (_server, proxy, one, other) = on_a_slow_server().await;
    // Known before: what a connection costs is no matter here.
    one.bus.contains("ns", "f").await.unwrap();
    let call_id = "x".repeat(200);
    for _ in 0..TASKS {
        one.manager.spawn(meta().with_call_id(&*call_id), async {}).unwrap();
    }
    until("all are written", async || one.health().waiting_records == 0).await;
    // As many as are kept.
    let seen = other.manager.list(&alice()).await.unwrap();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|task| task.status == Completed));
    // Attempts were given up, and it went on with fewer.
    assert!(proxy.accepted() > 2, "{}", proxy.accepted());
}
