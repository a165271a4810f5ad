//! Background tasks over HTTP, for axum: the layer that hands slow calls over, two read-only endpoints that show the
//! tasks, and their OpenAPI document.
//!
//! ```
//! use std::time::Duration;
//! use axum::Router;
//! use axum::routing::post;
//! use tower_offload::{BackgroundTasks, TaskManager};
//!
//! let tasks = BackgroundTasks::new(TaskManager::new());
//! let app: Router = Router::new()
//!     .route("/reports", post(async || "the report"))
//!     .layer(tasks.layer(Duration::from_secs(10)))
//!     .merge(tasks.router());
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /background-tasks` | the caller's tasks, in the order in which they moved to the background |
//! | `GET /background-tasks?session_id=S` | those of one session; an empty `S` asks for those without a session |
//! | `GET /background-tasks/{task_id}` | one task, or 404 |
//!
//! Bodies are [`ListBackgroundTasksResponse`](crate::task::ListBackgroundTasksResponse) and
//! [`BackgroundTaskInfo`](crate::task::BackgroundTaskInfo); everything else is a [`ProblemDetails`] of RFC 9457,
//! and [`problem`] lists them. A task of another user is answered like one that does not exist, with the same bytes.
//! `HEAD` works, any other method is 405, and no answer may be stored by a cache.
//!
//! # Who asks
//!
//! [`BackgroundTasksBuilder::identify`] says once, for the layer and for the routes, which user makes a request: an
//! [`Identity`](crate::http::Identity). By default that is a [`Caller`](crate::http::Caller) in the request's extensions,
//! else the header `X-User-ID`, **which is only safe behind a gateway that sets or removes it**.
//!
//! A service that authenticates its clients itself inserts a `Caller` in a middleware around the layer and the routes,
//! and says that no header is believed:
//!
//! ```
//! use std::time::Duration;
//! use axum::extract::Request;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::Response;
//! use axum::{Router, routing::post};
//! use tower_offload::http::{Caller, Identity};
//! use tower_offload::{BackgroundTasks, TaskManager};
//!
//! # fn user_of(_: &Request) -> Option<String> { None }
//! async fn authenticate(mut request: Request, next: Next) -> Response {
//!     if let Some(user) = user_of(&request) {
//!         request.extensions_mut().insert(Caller::new(user));
//!     }
//!     next.run(request).await
//! }
//!
//! let tasks = BackgroundTasks::builder(TaskManager::new()).identify(Identity::extension_only()).build();
//! let app: Router = Router::new()
//!     .route("/reports", post(async || "the report"))
//!     .layer(tasks.layer(Duration::from_secs(10)))
//!     .merge(tasks.router())
//!     .layer(from_fn(authenticate));
//! ```
//!
//! # Mounting
//!
//! [`BackgroundTasks::router`] fits into any axum router, whatever its state is. It adds no fallback, so that it clashes
//! with none:
//!
//! ```
//! use axum::Router;
//! use axum::routing::get;
//! use tower_offload::{BackgroundTasks, TaskManager};
//!
//! #[derive(Clone)]
//! struct AppState {
//!     greeting: &'static str,
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(|state: axum::extract::State<AppState>| async move { state.greeting }))
//!     .merge(BackgroundTasks::builder(TaskManager::new()).prefix("/api/v1").build().router())
//!     .with_state(AppState { greeting: "hello" });
//! ```
//!
//! [`BackgroundTasksBuilder::prefix`] says once where the routes are, for the routes, the `Location` of the layer's 202 and the
//! document. It is the whole path that clients see: with `Router::nest` instead, the `Location` would lack that prefix.
//!
//! An application that has an OpenAPI document of its own merges [`BackgroundTasks::openapi_router`]; paths, schemas,
//! the tag and the security scheme come along:
//!
//! ```
//! use tower_offload::{BackgroundTasks, TaskManager};
//! use utoipa_axum::router::OpenApiRouter;
//!
//! let tasks = BackgroundTasks::builder(TaskManager::new()).prefix("/v1").build();
//! let (router, document) =
//!     OpenApiRouter::<()>::default().merge(tasks.openapi_router()).split_for_parts();
//! assert!(document.paths.paths.contains_key("/v1/background-tasks/{task_id}"));
//! # let _: axum::Router = router;
//! ```
//!
//! The schemas are `BackgroundTaskInfo`, `BackgroundTaskStatus`, `BackgroundTaskFailureReason`,
//! `ListBackgroundTasksResponse` and `ProblemDetails`. Where the application has a schema of the last name itself,
//! its own stays in the merged document: as both describe RFC 9457, clients can still read our errors by it.
//!
//! # The document
//!
//! [`BackgroundTasks::openapi`] is OpenAPI 3.1, made from the routes that are served. The repository has it as a file
//! too, `openapi/background-tasks.json`, with YAML and a 3.0 rendition beside it.
#![cfg_attr(feature = "swagger-ui", doc = "")]
#![cfg_attr(
    feature = "swagger-ui",
    doc = "[`BackgroundTasks::swagger_ui`] shows it in a browser; see [`SwaggerUi`]."
)]

mod builder;
mod cache;
mod handlers;
mod identity;
mod openapi;
mod prefix;
pub mod problem;
mod render;
mod router;
mod state;
#[cfg(feature = "swagger-ui")]
mod swagger_ui;
mod times;

pub use self::builder::BackgroundTasksBuilder;
pub use self::problem::ProblemDetails;
pub use self::router::BackgroundTasks;
#[cfg(feature = "swagger-ui")]
#[cfg_attr(docsrs, doc(cfg(feature = "swagger-ui")))]
pub use self::swagger_ui::SwaggerUi;
