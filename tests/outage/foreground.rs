//! Whoever calls does not notice.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::tool::{ToolCall, ToolResponse};

use crate::process::{Process, TIMEOUT, call};
use crate::proxy::Way;
use crate::world::{ANSWER, Outage, World, until};

/// A call that waits for Redis takes `ANSWER` or longer. Half of the calls take less than this even on a busy machine.
const LITTLE: Duration = Duration::from_millis(ANSWER.as_millis() as u64 / 2);

/// The median of many calls.
async fn median(one: impl AsyncFn()) -> Duration {
    let calls = (0..20).map(async |_| {
        let began = Instant::now();
        one().await;
        began.elapsed()
    });
    let mut took = join_all(calls).await;
    took.sort_unstable();
    took[took.len() / 2]
}

pub(crate) async fn calls_are_as_fast_as_ever(process: &Process) {
    let fast = process.layer.layer(service_fn(async |call: ToolCall| {
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "at once"))
    }));
    let median_time = median(async || {
        let answer = fast.clone().oneshot(call()).await.unwrap();
        assert_eq!(answer.content[0].as_text(), Some("at once"));
    })
    .await;
    assert!(median_time < LITTLE, "{median_time:?}");

    let median_time = median(async || drop(process.offload().await)).await;
    assert!(median_time < TIMEOUT + LITTLE, "{median_time:?}");
}

async fn calls_do_not_wait(outage: Outage) {
    let mut world = World::new(outage).await;
    world.begin();
    // Before anybody has noticed, while attempts are under way, and when it is known.
    calls_are_as_fast_as_ever(&world.one).await;
    until("it is noticed", async || !world.one.health().bus.connected).await;
    calls_are_as_fast_as_ever(&world.one).await;
    world.end();
    calls_are_as_fast_as_ever(&world.one).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_a_server_that_is_slow() {
    let world = World::new(Outage::Cut).await;
    world.proxy.set(Way::Delay(Duration::from_secs(1)));
    calls_are_as_fast_as_ever(&world.one).await;
}
