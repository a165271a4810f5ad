//! How long a call may take.

use std::time::Duration;

use tokio::time::Instant;
use tower_offload::TaskManager;
use tower_offload::http::{DescribeRequest, prefer_wait};

use crate::support::{SLOW, TIMEOUT, layer, request, slow};

async fn answered_after(describe: DescribeRequest, uri: &str, headers: &[(&str, &[u8])]) -> (u16, Duration) {
    let manager = TaskManager::new();
    let mut request = request("POST", uri, headers);
    request.headers_mut().insert("x-user-id", "alice".parse().unwrap());
    let start = Instant::now();
    let response = slow(layer(&manager).describe(describe), request).await;
    (response.status().as_u16(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_request_can_have_a_timeout_of_its_own() {
    let describe = DescribeRequest::new().timeout(|head| match head.uri().path() {
        "/impatient" => Some(Duration::from_secs(2)),
        "/patient" => Some(Duration::MAX),
        _ => None,
    });
    assert_eq!(answered_after(describe.clone(), "/impatient", &[]).await, (202, Duration::from_secs(2)));
    assert_eq!(answered_after(describe.clone(), "/patient", &[]).await, (200, SLOW));
    assert_eq!(answered_after(describe, "/", &[]).await, (202, TIMEOUT));
}

#[tokio::test(start_paused = true)]
async fn a_client_can_say_how_long_it_waits() {
    let describe = DescribeRequest::new().timeout(prefer_wait(Duration::from_secs(30)));
    for (prefer, answer) in [
        ("wait=3", (202, Duration::from_secs(3))),
        ("respond-async", (202, Duration::ZERO)),
        ("wait=86400", (202, Duration::from_secs(30))),
        ("return=minimal", (202, TIMEOUT)),
        ("respond-async=\"\"", (202, Duration::ZERO)),
        ("respond-async=no", (202, TIMEOUT)),
        ("respond-async=no, wait=3", (202, Duration::from_secs(3))),
        // The first one counts, and it is not understood.
        ("respond-async=no, respond-async", (202, TIMEOUT)),
    ] {
        assert_eq!(
            answered_after(describe.clone(), "/", &[("prefer", prefer.as_bytes())]).await,
            answer,
            "{prefer}"
        );
    }
}
