//! Hooks for [`http::Request`] and [`http::Response`]: a slow request is answered `202 Accepted` and goes on.
//!
//! With axum, take `BackgroundTasks::layer` of the feature `api`: it makes the layer and the routes that show the tasks
//! from one value, so that they agree on who makes a request, and it can tell when a request's body has been read.
//! [`layer`] is for any other stack, with all the hooks of this module set:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_offload::TaskManager;
//!
//! let manager = TaskManager::new();
//! let service = ServiceBuilder::new()
//!     .layer(tower_offload::http::layer(manager, Duration::from_secs(10)))
//!     .service_fn(async |_: Request<()>| {
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("the report"))))
//!     });
//!
//! let request = Request::post("/reports").header("X-User-ID", "alice").body(())?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.status(), 202);
//! assert!(response.headers()["location"].to_str()?.starts_with("/background-tasks/"));
//! # Ok(())
//! # }
//! ```
//!
//! A `POST /reports` with `X-User-ID: alice` is answered after ten seconds with `202 Accepted`, a `Location`, and the
//! record of the task as JSON; after a minute the task of alice is `completed`. A request without a user waits for its
//! report, because no user could read its task.
//!
//! # The hooks, one by one
//!
//! | builder method | hook | what it does |
//! | --- | --- | --- |
//! | `describe` | [`DescribeRequest`] | who calls what ([`Identity`]), which calls may be handed over ([`Rule`]), and when |
//! | `respond` | [`RespondAccepted`] | 202 with `Location`, or a refusal |
//! | `classify` | [`ClassifyStatus`] | 4xx, 5xx and gRPC errors are failures |
//! | `deliver` | your own | gets the response when it is there; by default the response is dropped |
//!
//! They are independent of each other and of the type of the request body; a response body that is not made from
//! `Bytes` needs [`RespondAccepted::map_body`]. Replace one of them on what [`layer`] returns, or use one of them on an
//! [`OffloadLayer`] of your own.
//!
//! ```
//! use std::time::Duration;
//! use tower_offload::TaskManager;
//! use tower_offload::http::{self, DescribeRequest, Identity, RespondAccepted};
//!
//! let layer = http::layer(TaskManager::new(), Duration::from_secs(10))
//!     .describe(DescribeRequest::new().identity(Identity::extension_only()))
//!     .respond(RespondAccepted::new().location_prefix("/api"));
//! ```
//!
//! A describer around [`DescribeRequest`] keeps its rules, because [`Plan::map`](crate::offload::Plan::map) changes only the kept value:
//!
//! ```
//! use std::time::Duration;
//! use ::http::Request;
//! use tower_offload::http::{self, DescribeRequest, HttpCall};
//! use tower_offload::offload::{DescribeCall, OffloadCall};
//! use tower_offload::{TaskManager, TaskMeta};
//!
//! struct OfTenant {
//!     call: HttpCall,
//!     tenant: String,
//! }
//!
//! impl OffloadCall for OfTenant {
//!     fn meta(&self) -> TaskMeta {
//!         self.call.meta().with_agent(&*self.tenant)
//!     }
//! }
//!
//! let describe = DescribeRequest::new();
//! let layer = http::layer(TaskManager::new(), Duration::from_secs(10)).describe(move |request: &Request<()>| {
//!     let tenant = request.uri().host().unwrap_or_default().to_owned();
//!     describe.describe_call(request).map(|call| OfTenant { call, tenant })
//! });
//! ```
//!
//! # What to know
//!
//! - **The response head is what is timed.** A response whose head is there in time and whose body trickles for an
//!   hour is in time.
//! - **A request that is still being sent stays in the foreground.** Some clients stop sending when they see an answer, so a
//!   202 in the middle of an upload loses the upload. [`layer`] judges by the head of the request: one that announces a
//!   body stays, unless the stack [watches](watch_body) its bodies. With watched bodies the timeout begins when the body
//!   has been read to its end.
//! - **The response of a handed-over call is dropped**, its body unread, unless a deliverer takes it: the task says
//!   that the call ended and how, not what it answered. What a body would do while it is read, it does not do.
//! - **A client that leaves before the deadline** cancels its call, unless the layer's
//!   [`on_disconnect`](OffloadLayer::on_disconnect) says otherwise; after the 202 it cannot.
//! - **Layers outside of this one** see the 202 and finish with it. Time limits, tracing spans of the response and
//!   permits of a concurrency limit belong inside if they should cover the work.

mod body;
mod call;
mod caller;
mod classify;
mod describe;
mod grammar;
mod head;
mod identity;
mod prefer;
mod respond;
mod rule;
mod seen;
mod stay;
mod texts;
mod unidentified;

use std::time::Duration;

pub use self::body::{WatchedBody, watch_body};
pub use self::call::HttpCall;
pub use self::caller::Caller;
pub use self::classify::ClassifyStatus;
pub use self::describe::DescribeRequest;
pub use self::head::RequestHead;
#[cfg(feature = "api")]
pub(crate) use self::identity::display_name;
pub use self::identity::{IdentifyUser, Identity};
pub use self::prefer::prefer_wait;
pub use self::respond::{IntoBody, MakeBody, RespondAccepted};
pub use self::rule::Rule;
pub use self::unidentified::Unidentified;
use crate::manager::TaskManager;
use crate::offload::{Hooks, OffloadLayer};

/// The layer that [`layer`] makes.
pub type HttpOffloadLayer = OffloadLayer<Hooks<DescribeRequest, RespondAccepted, ClassifyStatus, ()>>;

/// A layer that answers `202 Accepted` to requests that take longer than `timeout`, and goes on with them.
///
/// For any service of `http::Request` and `http::Response` with a response body that is made from
/// [`Bytes`](bytes::Bytes). What it does with which request is in the docs of its hooks, [`DescribeRequest`],
/// [`RespondAccepted`] and [`ClassifyStatus`], each with its defaults. Requests that announce a body stay in the
/// foreground unless their body is [watched](watch_body).
///
/// The time starts when the service could not answer at once. With [`Duration::ZERO`] every such request is handed
/// over, with [`Duration::MAX`] none is.
///
/// Routes that show the tasks have to use the same [`Identity`]. With axum, `BackgroundTasks::layer` of the feature
/// `api` sees to it.
pub fn layer(manager: TaskManager, timeout: Duration) -> HttpOffloadLayer {
    OffloadLayer::new(manager, timeout)
        .describe(DescribeRequest::new())
        .respond(RespondAccepted::new())
        .classify(ClassifyStatus::new())
}
