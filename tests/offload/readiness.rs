//! Readiness belongs to the inner service, and so does the error.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord};
use tower_test::mock;

use crate::support::{SECOND, meta};

/// Ready only after it was asked, and its clones are not ready.
#[derive(Debug, Default)]
struct OnlyTheOneThatWasAsked {
    asked: bool,
}

impl Clone for OnlyTheOneThatWasAsked {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<()> for OnlyTheOneThatWasAsked {
    type Response = &'static str;
    type Error = Infallible;
    type Future = Ready<Result<&'static str, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.asked), "called without having been asked whether it is ready");
        ready(Ok("yes"))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| "late");
    let mut service = layer.layer(OnlyTheOneThatWasAsked::default());
    for _ in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(()).await, Ok("yes"));
    }
}

#[tokio::test]
async fn readiness_is_forwarded() {
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|_: &&'static str| Some(meta()))
        .respond(|_: &TaskRecord| "late")
        .classify(|_: Result<&&'static str, &tower::BoxError>| tower_offload::task::Outcome::Completed);
    let (mut service, mut handle) = mock::spawn_layer::<&'static str, &'static str, _>(layer);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    handle.send_error("broken");
    let error = futures_util::future::poll_fn(|_| service.poll_ready()).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
}

#[derive(Debug, PartialEq)]
struct NotEvenDisplay;

#[tokio::test]
async fn the_error_is_the_inner_services_own() {
    #[derive(Debug, PartialEq)]
    struct Own(u8);
    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "own {}", self.0)
        }
    }
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|_: &u8| Some(meta()))
        .respond(|_: &TaskRecord| ());
    let service = layer.layer(service_fn(async |n: u8| Err::<(), _>(Own(n))));
    assert_eq!(service.oneshot(7).await, Err(Own(7)));

    let layer = layer.classify(|_: Result<&(), &NotEvenDisplay>| tower_offload::task::Outcome::Completed);
    let service = layer.layer(service_fn(async |_: u8| Err::<(), _>(NotEvenDisplay)));
    assert_eq!(service.oneshot(7).await, Err(NotEvenDisplay));
}

#[tokio::test]
async fn the_request_need_not_live_long() {
    let layer = OffloadLayer::new(TaskManager::new(), SECOND)
        .describe(|_: &&str| Some(meta()))
        .respond(|_: &TaskRecord| 0);
    let service = layer.layer(service_fn(|text: &str| ready(Ok::<_, Infallible>(text.len()))));
    let short_lived = String::from("four");
    assert_eq!(service.oneshot(short_lived.as_str()).await, Ok(4));
}
