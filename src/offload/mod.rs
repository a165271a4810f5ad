//! The middleware: a timeout that hands the call over instead of dropping it.
//!
//! A call that is done in time answers as if the layer were not there. A call that is not done at the deadline moves
//! to the background as it is: the very future that was being polled, never restarted and never spawned up front.
//! Its caller gets a placeholder at once, made by a hook, that names the task.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};
//!
//! let manager = TaskManager::new();
//! let layer = OffloadLayer::new(manager.clone(), Duration::from_secs(10))
//!     .describe(|user: &&'static str| Some(TaskMeta::new(*user, "report")))
//!     .respond(|task: &TaskRecord| format!("not done yet, watch task {}", task.id));
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(|user: &'static str| async move {
//!     tokio::time::sleep(Duration::from_secs(if user == "alice" { 60 } else { 1 })).await;
//!     Ok::<_, Infallible>(format!("the report for {user}"))
//! }));
//!
//! assert_eq!(service.clone().oneshot("bob").await?, "the report for bob");
//! assert!(service.oneshot("alice").await?.starts_with("not done yet, watch task "));
//! # Ok(())
//! # }
//! ```
//!
//! # The hooks
//!
//! | builder method | trait | when it runs | default |
//! | --- | --- | --- | --- |
//! | [`describe`](OffloadLayer::describe) | [`DescribeCall`] | each call, before it starts | must be set |
//! | [`respond`](OffloadLayer::respond) | [`RespondOffloaded`] | at the hand-over | must be set |
//! | [`classify`](OffloadLayer::classify) | [`ClassifyResult`] | when the work has returned | `Err` is a failure |
//! | [`deliver`](OffloadLayer::deliver) | [`DeliverResult`] | when the work is gone; its future, when the record is terminal for all readers | nothing |
//!
//! The features `http` and `tool` have ready ones.
//!
//! A describer decides whether a call may be handed over, and when: see [`Plan`]. A closure may answer an [`Option`] in
//! place of it.
//!
//! When the compiler says that the layered service is no `Service`, or that it has no `oneshot`, one of the hooks is
//! missing or does not fit: `describe` has to name the request type of the inner service, in full (`|request: &Request|`);
//! `respond` has to answer with its response type; its error type has to implement `Display` or there has to be a
//! `classify`; and its future, response and error have to be `Send + 'static`.
//!
//! # What is timed
//!
//! The time begins when the call's future has returned `Pending` for the first time, and ends with its answer. A call
//! can put the beginning [off](Plan::start_after), such as until its request's body has been read. The time
//! covers neither `poll_ready` nor, for HTTP, the reading of a response body. A future that is ready at the first
//! poll costs no clock, timer, lock or task; one that is ready at the deadline wins over it. A call that is not
//! admitted, because of a limit or a shutdown, goes on in the foreground as without the layer, unless the hook
//! [refuses](RespondOffloaded::refuse) it.
//!
//! Calls that wait have no timer each. On each runtime one task wakes all calls that have the timeout of the layer, and
//! another one those that have one [of their own](Plan::with_timeout). Such a task ends when it finds no call that waits,
//! at the latest one timeout after the last call, and with the layer.
//!
//! A call may be polled on several runtimes. When the runtime ends on which its timeout began, the rest of the timeout
//! continues on the runtime that polls the call next.
//!
//! # The caller who leaves
//!
//! Dropping the response future before the deadline drops the work, as in every tower stack, and cancels its
//! [`cancellation_token`](crate::cancellation_token); or hands it over at once, see [`OnDisconnect`]. After the
//! deadline the caller has had its answer, and the task lives on.
//!
//! A panic before the deadline unwinds into the caller, as without the layer. After it, it is caught and the task
//! is `failed`.
//!
//! However the work comes to be dropped before it has returned (its caller leaves, the task is stopped, a hook or the
//! work itself panics), its token is cancelled first, so that what it has started elsewhere can end too.
//!
//! # One layer over another
//!
//! The layer whose deadline comes first hands over. If that is the outer one, the inner one hands nothing over any more: the
//! work is a task already, and its result is the end of the task. A stop of the task reaches the nested calls at any depth,
//! whether they are polled or not. If the inner layer hands over first, its task is no part of the outer call any more: the
//! caller of the outer call may leave.
//!
//! # Differences from `tower::timeout`
//!
//! - The work is not lost.
//! - The error type stays what it is; nothing becomes a `BoxError`.
//! - The inner future is boxed, one allocation for each call, since its ownership has to move.
//!   It must be `Send + 'static`; the request need not be.
//!
//! Readiness is the inner service's own: it is forwarded, and the service that was ready is the one that is called.

mod deadline;
mod future;
mod hand_over;
mod hooks;
mod layer;
mod plan;
mod service;
mod start;

pub use self::future::ResponseFuture;
pub use self::hooks::{
    ClassifyResult, DeliverResult, Delivery, DescribeCall, ErrIsFailure, Hooks, OffloadCall, Offloaded,
    RespondOffloaded, Unset,
};
pub use self::layer::{OffloadLayer, OnDisconnect};
pub use self::plan::{IntoPlan, Plan, StayReason};
pub use self::service::Offload;
pub use self::start::StartSignal;
