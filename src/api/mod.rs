//! The REST view of the background tasks: two read-only endpoints for axum, and their OpenAPI document.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /background-tasks` | the caller's tasks, in the order in which they moved to the background |
//! | `GET /background-tasks?session_id=S` | those of one session; an empty `S` asks for those without a session |
//! | `GET /background-tasks/{task_id}` | one task, or 404 |
//!
//! Bodies are [`ListBackgroundTasksResponse`](crate::task::ListBackgroundTasksResponse) and
//! [`BackgroundTaskInfo`](crate::task::BackgroundTaskInfo); everything else is a [`ProblemDetails`] of RFC 9457,
//! and [`problem`] lists them. Nobody sees another user's task: it is answered like one that does not exist, with
//! the same bytes. `HEAD` works, any other method is 405, and nothing may be stored by a cache.
//!
//! # Mounting
//!
//! [`BackgroundTasks::router`] fits into any axum router, whatever its state is:
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
//! let manager = TaskManager::new();
//! let app: Router = Router::new()
//!     .route("/", get(|state: axum::extract::State<AppState>| async move { state.greeting }))
//!     .merge(BackgroundTasks::new(manager).router())
//!     .with_state(AppState { greeting: "hello" });
//! ```
//!
//! Under a prefix use `nest("/prefix", ...)` instead of `merge`. It adds no fallback, so that it clashes with none.
//!
//! An application that has an OpenAPI document of its own merges or nests
//! [`BackgroundTasks::openapi_router`]; paths, schemas, the tag and the security scheme come along:
//!
//! ```
//! use tower_offload::{BackgroundTasks, TaskManager};
//! use utoipa_axum::router::OpenApiRouter;
//!
//! let tasks = BackgroundTasks::new(TaskManager::new());
//! let (router, document) =
//!     OpenApiRouter::<()>::default().nest("/v1", tasks.openapi_router()).split_for_parts();
//! assert!(document.paths.paths.contains_key("/v1/background-tasks/{task_id}"));
//! # let _: axum::Router = router;
//! ```
//!
//! The schemas are `BackgroundTaskInfo`, `BackgroundTaskStatus`, `BackgroundTaskFailureReason`,
//! `ListBackgroundTasksResponse` and `ProblemDetails`. Where the application has a schema of the last name itself,
//! its own stays in the merged document: as both describe RFC 9457, clients can still read our errors by it.
//!
//! # Who asks
//!
//! [`IdentifyUser`] tells whose tasks a request may see. The default, [`UserIdHeader`], believes the header
//! `X-User-ID`, **which is only safe behind a gateway that sets or removes it**. A closure replaces it:
//!
//! ```
//! use tower_offload::api::{BackgroundTasks, IdentifyUser, Unidentified, UserIdHeader};
//! use tower_offload::TaskManager;
//!
//! let header = UserIdHeader::new();
//! let tasks = BackgroundTasks::new(TaskManager::new()).identify(move |parts: &http::request::Parts| {
//!     let user = header.identify(parts)?;
//!     if ["alice", "bob"].contains(&&*user) {
//!         Ok(user)
//!     } else {
//!         Err(Unidentified::new("this demo knows alice and bob only"))
//!     }
//! });
//! # let _: axum::Router = tasks.router();
//! ```
//!
//! Identification that has to wait, for a session store or an introspection endpoint, belongs into a middleware in
//! front; it leaves an extension in the request, and the closure reads that.
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

mod cache;
mod handlers;
mod identity;
mod openapi;
pub mod problem;
mod render;
mod router;
#[cfg(feature = "swagger-ui")]
mod swagger_ui;
mod times;

pub use self::identity::{IdentifyUser, Unidentified, UserIdHeader};
pub use self::problem::ProblemDetails;
pub use self::router::BackgroundTasks;
#[cfg(feature = "swagger-ui")]
#[cfg_attr(docsrs, doc(cfg(feature = "swagger-ui")))]
pub use self::swagger_ui::SwaggerUi;
