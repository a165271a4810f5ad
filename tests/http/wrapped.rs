//! Calls of a host's own around the ready-made ones.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_offload::http::{DescribeRequest, HttpCall, prefer_wait, watch_body};
use tower_offload::offload::{DescribeCall, OffloadCall};
use tower_offload::{TaskManager, TaskMeta};

use crate::support::{SLOW, TIMEOUT, layer, request, slow, tasks};

/// The ready-made call of a tenant.
struct OfTenant {
    call: HttpCall,
    tenant: &'static str,
}

impl OffloadCall for OfTenant {
    fn meta(&self) -> TaskMeta {
        self.call.meta().with_agent(self.tenant)
    }
}

const ALICE: (&str, &[u8]) = ("x-user-id", b"alice");

#[tokio::test(start_paused = true)]
async fn a_call_around_the_ready_made_one_keeps_the_rules() {
    let manager = TaskManager::new();
    let describe =
        DescribeRequest::new().only(|head| head.uri().path() != "/excluded").timeout(prefer_wait(SLOW));
    let layer = layer(&manager).describe(move |request: &Request<Body>| {
        describe.describe_call(request).map(|call| OfTenant { call, tenant: "acme" })
    });
    for (method, path, headers) in [
        ("POST", "/", &[] as &[(&str, &[u8])]),
        ("HEAD", "/", &[ALICE]),
        ("GET", "/", &[ALICE, ("accept", b"text/event-stream")]),
        ("POST", "/", &[ALICE, ("content-type", b"application/grpc")]),
        ("POST", "/", &[ALICE, ("content-length", b"5")]),
        ("GET", "/", &[ALICE, ("upgrade", b"websocket")]),
        ("POST", "/excluded", &[ALICE]),
    ] {
        let response = slow(layer.clone(), request(method, path, headers)).await;
        assert_eq!(response.status(), 200, "{method} {path} {headers:?}");
    }
    assert_eq!(manager.stats().admitted, 0);

    // The timeout of the call.
    let begun = Instant::now();
    let patient = request("POST", "/", &[ALICE, ("prefer", b"wait=3")]);
    assert_eq!(slow(layer.clone(), patient).await.status(), 202);
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    let [task] = &tasks(&manager, "alice").await[..] else { panic!("not one task") };
    assert_eq!(task.meta.agent_id(), "acme");

    // The wait for the body.
    let watched =
        ServiceBuilder::new().map_request(|request| watch_body::<Body>(request).map(Body::new)).layer(layer);
    let handler = async |body: Body| {
        tokio::time::sleep(TIMEOUT * 2).await;
        drop(body);
        tokio::time::sleep(SLOW).await;
    };
    let begun = Instant::now();
    let upload = Request::post("/").header("x-user-id", "alice").body(Body::from("hello")).unwrap();
    let response = Router::new().fallback(handler).layer(watched).oneshot(upload).await.unwrap();
    assert_eq!((response.status().as_u16(), begun.elapsed()), (202, TIMEOUT * 3));
}
