//! The REST view says that it cannot be read, and never shows less than there is.

use std::time::{Duration, Instant};

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};

use crate::process::{Process, header_of, json};
use crate::world::{ANSWER, Outage, PATIENCE, World};

/// Whether it was all; anything but that or a proper refusal fails.
async fn is_whole(process: &Process, path: &str, total: u64) -> bool {
    let response = process.request(path).await;
    assert_eq!(header_of(&response, CACHE_CONTROL), "no-store");
    if response.status() == 200 {
        let body = json(response).await;
        assert_eq!(body.get("total").map_or(Some(total), |total| total.as_u64()), Some(total), "{body}");
        return true;
    }
    assert_eq!(response.status(), 503);
    assert_eq!(header_of(&response, CONTENT_TYPE), "application/problem+json");
    assert_eq!(header_of(&response, RETRY_AFTER), "1");
    let problem = json(response).await;
    assert_eq!(problem["status"], 503);
    assert_eq!(problem["detail"], "The tasks cannot be read just now.");
    false
}

async fn a_view_that_cannot_be_read_is_503(mut world: World, bound: Duration) {
    let mine = [world.one.offload().await, world.one.offload().await];
    let theirs = world.other.offload().await;
    world.one.is_well().await;
    world.other.is_well().await;
    let paths = ["/background-tasks".to_owned(), format!("/background-tasks/{}", mine[0].id)];
    assert!(is_whole(&world.one, &paths[0], 3).await);

    world.begin();
    for path in paths.iter().cycle().take(6) {
        let asked = Instant::now();
        assert!(!is_whole(&world.one, path, 3).await, "{path} can be read");
        assert!(asked.elapsed() < bound, "{path} took {:?}", asked.elapsed());
    }
    world.end();
    for path in &paths {
        let give_up = Instant::now() + PATIENCE;
        while !is_whole(&world.one, path, 3).await {
            assert!(Instant::now() < give_up);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop((mine, theirs));
}

/// A read that waits for one answer more than it should takes `ANSWER` longer; one that hangs takes this long.
const NOISE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped() {
    a_view_that_cannot_be_read_is_503(World::new(Outage::Stopped).await, NOISE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_cut() {
    a_view_that_cannot_be_read_is_503(World::new(Outage::Cut).await, NOISE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_stalled() {
    a_view_that_cannot_be_read_is_503(World::new(Outage::Stalled).await, ANSWER + NOISE).await;
}

/// A server that is there and answers everything with an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_server_is_503_too() {
    let world = World::new(Outage::Stopped).await;
    let task = world.one.offload().await;
    world.one.is_well().await;
    let mut plain = redis::Client::open(world.server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("other").exec(&mut plain).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut plain).unwrap();
    let asked = Instant::now();
    while is_whole(&world.one, "/background-tasks", 1).await {
        assert!(asked.elapsed() < PATIENCE);
    }
    drop(task);
}
