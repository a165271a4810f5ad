//! Calls do not wait for the server.

use std::convert::Infallible;

use futures_util::future::join_all;
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{RedisBus, TaskManager};

use crate::process::{Process, call};
use crate::proxy::{Proxy, Way};
use crate::redis_server::RedisServer;
use crate::world::{Outage, PATIENCE, World, until};

/// Makes calls of a fast tool and of one that moves to the background. A caller that waits for a server that is away waits
/// until this fails.
pub(crate) async fn calls_are_answered(process: &Process) {
    let fast = process.layer.layer(service_fn(async |call: ToolCall| {
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "at once"))
    }));
    let fast_calls = join_all((0..20).map(async |_| {
        let answer = fast.clone().oneshot(call()).await.unwrap();
        assert_eq!(answer.content[0].as_text(), Some("at once"));
    }));
    let slow_calls = join_all((0..20).map(async |_| drop(process.offload().await)));
    let all = futures_util::future::join(fast_calls, slow_calls);
    tokio::time::timeout(PATIENCE, all).await.expect("calls do not wait for the server");
}

async fn calls_do_not_wait(outage: Outage) {
    let mut world = World::new(outage).await;
    world.begin();
    // Before the process has noticed, while attempts are under way, and when it knows.
    calls_are_answered(&world.one).await;
    until("it is noticed", async || !world.one.health().bus.connected).await;
    calls_are_answered(&world.one).await;
    world.end();
    world.one.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_server_that_is_stopped() {
    calls_do_not_wait(Outage::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_server_that_is_emptied() {
    calls_do_not_wait(Outage::Emptied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_server_that_is_cut_off() {
    calls_do_not_wait(Outage::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_server_that_is_mute() {
    calls_do_not_wait(Outage::Stalled).await;
}

/// No request fails while the test waits, and none is answered: a call that waits for an answer waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_answers() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port()).await;
    let time = PATIENCE * 10;
    let bus = RedisBus::builder(proxy.url()).connect_timeout(time).response_timeout(time).build().unwrap();
    let process = Process::start(bus, TaskManager::builder()).await;
    proxy.set(Way::Delay(time));
    calls_are_answered(&process).await;
    let health = process.health();
    assert!(health.waiting_records >= 20 && health.bus.last_error.is_none(), "{health:?}");
}
