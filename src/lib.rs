//! A timeout throws the work away. [`OffloadLayer`] does not: a call that is done in time answers as if the layer
//! were not there, and a call that is not goes on in the background. Its caller gets an answer at once that names
//! the task, its owner watches it over two REST endpoints, an agent can stop it, and its result is delivered when it
//! ends.
//!
//! ```text
//!  caller            OffloadLayer                inner service          TaskManager
//!    │    request         │                            │                     │
//!    ├───────────────────▶├───────────────────────────▶│                     │
//!    │                    │◀──── Pending ──────────────┤                     │
//!    │                    │                            │                     │
//!    │              the deadline                       │                     │
//!    │                    ├── the future itself, still running ─────────────▶│ running
//!    │◀───────────────────┤                            │                     │
//!    │  202 / placeholder, names the task                                    │
//!    │                                                                       │
//!    ├─ GET /background-tasks/{task_id} ─────────────────────────────────────▶ running
//!    │                                                                       │
//!    │                                                          it ends      │ completed
//!    │◀─ result: delivery hook, an agent's inbox ────────────────────────────┤
//! ```
//!
//! # A plain tower stack
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_offload::task::Scope;
//! use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus};
//!
//! let manager = TaskManager::new();
//! let layer = OffloadLayer::new(manager.clone(), Duration::from_secs(10))
//!     .describe(|report: &&'static str| Some(TaskMeta::new("alice", *report)))
//!     .respond(|task: &TaskRecord| format!("not done yet: task {}", task.id));
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |report: &'static str| {
//!     tokio::time::sleep(Duration::from_secs(30)).await;
//!     Ok::<_, Infallible>(format!("the {report} report"))
//! }));
//!
//! assert!(service.oneshot("yearly").await?.starts_with("not done yet: task "));
//! let task = manager.list(&Scope::user("alice")).await?.remove(0);
//! let task = manager.wait(&Scope::user("alice"), task.id).await?.expect("it is retained");
//! assert_eq!(task.status, TaskStatus::Completed);
//! # Ok(()) }
//! ```
//!
//! # Where to look
//!
//! - [`offload`]: the middleware and its hooks; what is timed, what happens when the caller leaves.
//! - [`manager`]: the tasks themselves; limits, retention, stopping, shutdown.
//! - [`task`]: ids, descriptions, records, and [`summarize`].
//! - [`http`], [`tool`]: ready-made hooks for HTTP services and for the tool calls of an
//!   agent.
//! - [`api`]: [`BackgroundTasks`], the layer and the two endpoints for axum from one value, with OpenAPI document and
//!   Swagger UI.
//! - [`bus`]: the message bus, for deliveries and for cancels from elsewhere, and what a host needs that runs the
//!   sessions.
//!
//! # Features
//!
//! All are additive, none is on by default.
//!
//! | feature | what for | brings |
//! | --- | --- | --- |
//! | `http` | hooks for `http::Request` and `http::Response`: 202, `Location`, failure by status | `http`, `bytes` |
//! | `tool` | hooks for an agent's tool calls, hints to its inbox, `ToolStop` | time zones for `jiff` |
//! | `api` | `http`, and for axum the layer and `GET /background-tasks[/{task_id}]`, OpenAPI 3.1 | `axum`, `utoipa` |
//! | `swagger-ui` | `api`, and Swagger UI beside it; the assets are compiled in | `utoipa-swagger-ui` |
//! | `redis` | `RedisBus`, a message bus on Redis or Valkey for many processes | `redis` |
//! | `redis-tls` | `redis`, and `rediss://` URLs: TLS to the server | `rustls` with `ring` |
//! | `metrics` | counters, a gauge and a histogram for the recorder of the program: [what is counted][metrics] | `metrics` |
//! | `full` | all of the above | |
//!
//! # Runtime
//!
//! Tokio. The fast path needs none; timers and background tasks need a runtime with its time driver. Deadlines are
//! counted on tokio's clock, so that paused time works in tests.
//!
//! # Minimum supported Rust version
//!
//! 1.89. It may rise with a minor version.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "api")]
#[cfg_attr(docsrs, doc(cfg(feature = "api")))]
pub mod api;
#[cfg(feature = "api")]
mod axum_layer;
pub mod bus;
mod helper;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
mod log_limit;
pub mod manager;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
pub mod offload;
mod panics;
pub mod task;
mod telemetry;
#[cfg(feature = "tool")]
#[cfg_attr(docsrs, doc(cfg(feature = "tool")))]
pub mod tool;

#[cfg(feature = "api")]
#[cfg_attr(docsrs, doc(cfg(feature = "api")))]
#[doc(inline)]
pub use self::api::BackgroundTasks;
#[cfg(feature = "api")]
#[cfg_attr(docsrs, doc(cfg(feature = "api")))]
#[doc(inline)]
pub use self::axum_layer::{BackgroundTasksLayer, BackgroundTasksService};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[doc(inline)]
pub use self::bus::RedisBus;
#[doc(inline)]
pub use self::bus::{MemoryBus, MessageBus};
#[doc(inline)]
pub use self::manager::{CancelDispatcher, TaskManager, cancellation_token};
#[doc(inline)]
pub use self::offload::{Offload, OffloadLayer, ResponseFuture};
#[doc(inline)]
pub use self::task::{TaskId, TaskMeta, TaskRecord, TaskStatus, redact, summarize, summarize_with};
#[cfg(feature = "tool")]
#[cfg_attr(docsrs, doc(cfg(feature = "tool")))]
#[doc(inline)]
pub use self::tool::{ToolCall, ToolResponse, ToolStop};
