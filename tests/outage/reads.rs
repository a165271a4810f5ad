//! The REST view says that it cannot be read, and never shows less than there is.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};

use crate::process::{Process, header_of, json};
use crate::world::{Outage, PATIENCE, World, until};

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

async fn a_view_that_cannot_be_read_is_503(outage: Outage) {
    let mut world = World::new(outage).await;
    let mine = [world.one.offload().await, world.one.offload().await];
    let theirs = world.other.offload().await;
    world.one.is_well().await;
    world.other.is_well().await;
    let paths = ["/background-tasks".to_owned(), format!("/background-tasks/{}", mine[0].id)];
    assert!(is_whole(&world.one, &paths[0], 3).await);

    world.begin();
    for path in paths.iter().cycle().take(6) {
        // The answer comes while the server is away.
        let whole = tokio::time::timeout(PATIENCE, is_whole(&world.one, path, 3)).await;
        assert_eq!(whole, Ok(false), "{path}");
    }
    world.end();
    for path in &paths {
        until("it can be read", async || is_whole(&world.one, path, 3).await).await;
    }
    drop((mine, theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped() {
    a_view_that_cannot_be_read_is_503(Outage::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_cut() {
    a_view_that_cannot_be_read_is_503(Outage::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_is_stalled() {
    a_view_that_cannot_be_read_is_503(Outage::Stalled).await;
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
    until("it is refused", async || !is_whole(&world.one, "/background-tasks", 1).await).await;
    drop(task);
}
