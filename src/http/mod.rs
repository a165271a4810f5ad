//! Hooks for [`http::Request`] and [`http::Response`]: a slow request is answered `202 Accepted` and goes on.
//!
//! [`layer`] has all of them set. With axum:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use axum::{Router, routing::post};
//! use tower_offload::TaskManager;
//!
//! let manager = TaskManager::new();
//! let app = Router::new()
//!     .route("/reports", post(|| async {
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!         "the report"
//!     }))
//!     .layer(tower_offload::http::layer(manager, Duration::from_secs(10)));
//! # use tower::ServiceExt;
//! # let request = http::Request::post("/reports").header("x-user-id", "alice");
//! # let response = app.oneshot(request.body(axum::body::Body::empty())?).await?;
//! # assert_eq!(response.status(), 202);
//! # assert!(response.headers()["location"].to_str()?.starts_with("/background-tasks/"));
//! # Ok(())
//! # }
//! ```
//!
//! A `POST /reports` with `X-User-ID: alice` is answered after ten seconds with `202 Accepted`, a `Location`, and the
//! record of the task as JSON; after a minute the task of alice is `completed`. A request without a user waits for
//! its report, because nobody could watch its task.
//!
//! # The hooks, one by one
//!
//! | builder method | hook | what it does |
//! | --- | --- | --- |
//! | `describe` | [`DescribeRequest`] | who calls what, which calls may be handed over, and when |
//! | `respond` | [`RespondAccepted`] | 202 with `Location`, or a refusal |
//! | `classify` | [`ClassifyStatus`] | 4xx and 5xx are failures |
//! | `deliver` | your own | gets the response when it is there; by default it is dropped |
//!
//! They are independent of each other and of the type of the request body; a response body that is not made from
//! `Bytes` needs [`RespondAccepted::map_body`]. Replace one of them on what [`layer`] returns,
//! or use one of them on an [`OffloadLayer`] of your own.
//!
//! ```
//! use std::time::Duration;
//! use tower_offload::TaskManager;
//! use tower_offload::http::{self, DescribeRequest, RespondAccepted};
//!
//! let layer = http::layer(TaskManager::new(), Duration::from_secs(10))
//!     .describe(DescribeRequest::new().extension_only())
//!     .respond(RespondAccepted::new().location_prefix("/api"));
//! ```
//!
//! # What to know
//!
//! - **The response head is what is timed.** A response whose head is there in time and whose body trickles for an
//!   hour is in time.
//! - **The response of a handed-over call is dropped**, its body unread, unless a deliverer takes it: the task tells
//!   that the call ended and how, not what it answered. What a body would do while it is read, it does not do.
//! - **Read the request body first.** Once the 202 is sent, a server may stop reading the request, so a handler that
//!   still reads a body then can fail. Extractors that buffer it, such as axum's `Json`, and handlers that read it
//!   before the slow part are safe if that takes less than the timeout.
//! - **A client that leaves before the deadline** cancels its call, unless the layer's
//!   [`on_disconnect`](OffloadLayer::on_disconnect) says otherwise; after the 202 it cannot.
//! - **Layers outside of this one** see the 202 and finish with it. Time limits, tracing spans of the response and
//!   permits of a concurrency limit belong inside if they should cover the work.

mod call;
mod caller;
mod classify;
mod describe;
mod head;
mod prefer;
mod respond;
mod seen;
mod texts;

use std::time::Duration;

pub use self::call::HttpCall;
pub use self::caller::Caller;
pub use self::classify::ClassifyStatus;
pub use self::describe::DescribeRequest;
pub use self::head::RequestHead;
pub use self::prefer::prefer_wait;
pub use self::respond::{IntoBody, MakeBody, RespondAccepted};
use crate::manager::TaskManager;
use crate::offload::{Hooks, OffloadLayer};

/// The layer that [`layer`] makes.
pub type HttpOffloadLayer = OffloadLayer<Hooks<DescribeRequest, RespondAccepted, ClassifyStatus, ()>>;

/// A layer that answers `202 Accepted` to requests that take longer than `timeout`, and goes on with them.
///
/// For any service of `http::Request` and `http::Response` with a response body that is made from
/// [`Bytes`](bytes::Bytes), such as an axum router. What it does with which request is in the docs of its hooks,
/// [`DescribeRequest`], [`RespondAccepted`] and [`ClassifyStatus`], each with its defaults.
///
/// The time starts when the service could not answer at once. With [`Duration::ZERO`] every such request is handed
/// over, with [`Duration::MAX`] none is.
pub fn layer(manager: TaskManager, timeout: Duration) -> HttpOffloadLayer {
    OffloadLayer::new(manager, timeout)
        .describe(DescribeRequest::new())
        .respond(RespondAccepted::new())
        .classify(ClassifyStatus::new())
}
