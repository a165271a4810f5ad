//! [`BackgroundTasks::layer`]: the layer and the routes from one value. It is here because `api` knows no tower, and
//! `offload` and `http` know no axum.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::api::BackgroundTasks;
use crate::http::{ClassifyStatus, DescribeRequest, RespondAccepted, watch_body};
use crate::offload::{Hooks, Offload, OffloadLayer, OnDisconnect};

type HttpHooks<C, D> = Hooks<DescribeRequest, RespondAccepted, C, D>;

impl BackgroundTasks {
    /// The layer that answers `202 Accepted` to requests that take longer than `timeout`, and goes on with them as tasks
    /// that the [routes](Self::router) show: to the same users, at the `Location` of the 202.
    ///
    /// What it does with which request is in the docs of its hooks, each with its defaults: [`DescribeRequest`],
    /// [`RespondAccepted`] and [`ClassifyStatus`]. The identity and the prefix are those of `self`. A request to the
    /// [routes](Self::router) of `self` stays in the foreground, so that they may be inside of the layer too.
    ///
    /// The time begins when the service could not answer at once, and not before the request's body has been read to
    /// its end: some clients stop sending when they see an answer. A body that the service drops counts as read, and so
    /// does one that ends with an error. With [`Duration::ZERO`] each such request is handed over, with
    /// [`Duration::MAX`] none is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use axum::{Router, routing::post};
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let tasks = BackgroundTasks::builder(TaskManager::new()).prefix("/api").build();
    /// let app = Router::new()
    ///     .route("/reports", post(async |_: String| tokio::time::sleep(Duration::from_secs(60)).await))
    ///     .layer(tasks.layer(Duration::from_secs(10)))
    ///     .merge(tasks.router());
    /// # use axum::body::Body;
    /// # use tower::ServiceExt;
    ///
    /// let request = http::Request::post("/reports").header("x-user-id", "alice").body(Body::from("2026"))?;
    /// let response = app.clone().oneshot(request).await?;
    /// assert_eq!(response.status(), 202);
    ///
    /// let location = response.headers()["location"].to_str()?;
    /// let request = http::Request::get(location).header("x-user-id", "alice").body(Body::empty())?;
    /// assert_eq!(app.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer(&self, timeout: Duration) -> BackgroundTasksLayer {
        let describe = self.bind(DescribeRequest::new());
        let respond = self.respond_accepted();
        let offload = OffloadLayer::new(self.manager().clone(), timeout)
            .describe(describe.clone())
            .respond(respond.clone())
            .classify(ClassifyStatus::new());
        BackgroundTasksLayer { offload, tasks: self.clone(), describe, respond }
    }

    /// The describer with what the layer and the routes have in common, whatever it had before.
    fn bind(&self, describe: DescribeRequest) -> DescribeRequest {
        self.own(describe).with_watched_bodies()
    }
}

/// The layer that [`BackgroundTasks::layer`] makes, for services of `http::Request` with axum's [`Body`].
///
/// Its methods change the hooks and leave what the routes have to agree with: who makes a request, and where the
/// routes are.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use tower_offload::http::{ClassifyStatus, Identity};
/// use tower_offload::offload::OnDisconnect;
/// use tower_offload::{BackgroundTasks, TaskManager};
///
/// let tasks = BackgroundTasks::builder(TaskManager::new()).identify(Identity::extension_only()).build();
/// let layer = tasks
///     .layer(Duration::from_secs(10))
///     .describe(|describe| describe.only(|head| head.uri().path().starts_with("/reports")))
///     .respond(|respond| respond.refuse_with_503(Duration::from_secs(30)))
///     .classify(ClassifyStatus::new().server_errors_only())
///     .on_disconnect(OnDisconnect::HandOver);
/// let app: Router = Router::new().layer(layer).merge(tasks.router());
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct BackgroundTasksLayer<C = ClassifyStatus, D = ()> {
    offload: OffloadLayer<HttpHooks<C, D>>,
    tasks: BackgroundTasks,
    describe: DescribeRequest,
    respond: RespondAccepted,
}

impl<C, D> BackgroundTasksLayer<C, D> {
    /// Changes which calls may be handed over, after how long, and how their tasks are named. What the closure does to the
    /// [identity](DescribeRequest::identity) has no effect, and bodies are watched whatever it answers.
    pub fn describe(self, change: impl FnOnce(DescribeRequest) -> DescribeRequest) -> Self {
        let Self { offload, tasks, describe, respond } = self;
        let describe = tasks.bind(change(describe));
        Self { offload: offload.describe(describe.clone()), tasks, describe, respond }
    }

    /// Changes the answer to calls that are handed over or refused. What the closure does to the
    /// [prefix](RespondAccepted::location_prefix) has no effect.
    pub fn respond(self, change: impl FnOnce(RespondAccepted) -> RespondAccepted) -> Self {
        let Self { offload, tasks, describe, respond } = self;
        let respond = change(respond).location_prefix(tasks.mounted_at());
        Self { offload: offload.respond(respond.clone()), tasks, describe, respond }
    }

    /// Which responses are failures: a [`ClassifyResult`](crate::offload::ClassifyResult). Default:
    /// [`ClassifyStatus::new`].
    pub fn classify<T>(self, classify: T) -> BackgroundTasksLayer<T, D> {
        let Self { offload, tasks, describe, respond } = self;
        let offload = offload.classify(classify);
        BackgroundTasksLayer { offload, tasks, describe, respond }
    }

    /// Where the responses go: a [`DeliverResult`](crate::offload::DeliverResult). Default: they are dropped.
    pub fn deliver<T>(self, deliver: T) -> BackgroundTasksLayer<C, T> {
        let Self { offload, tasks, describe, respond } = self;
        let offload = offload.deliver(deliver);
        BackgroundTasksLayer { offload, tasks, describe, respond }
    }

    /// What happens to a call whose caller leaves before the deadline. Default: [`OnDisconnect::Cancel`].
    pub fn on_disconnect(mut self, on_disconnect: OnDisconnect) -> Self {
        self.offload = self.offload.on_disconnect(on_disconnect);
        self
    }
}

impl<C, D> fmt::Debug for BackgroundTasksLayer<C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasksLayer")
            .field("describe", &self.describe)
            .field("respond", &self.respond)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, D: Clone> Layer<S> for BackgroundTasksLayer<C, D> {
    type Service = BackgroundTasksService<S, C, D>;

    fn layer(&self, inner: S) -> Self::Service {
        BackgroundTasksService { offload: self.offload.layer(inner) }
    }
}

/// The service that [`BackgroundTasksLayer`] makes.
///
/// Cloning clones the inner service; the hooks and the manager are shared.
pub struct BackgroundTasksService<S, C = ClassifyStatus, D = ()> {
    offload: Offload<S, HttpHooks<C, D>>,
}

impl<S, C, D> BackgroundTasksService<S, C, D> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        self.offload.get_ref()
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        self.offload.get_mut()
    }

    /// The inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.offload.into_inner()
    }
}

impl<S: Clone, C, D> Clone for BackgroundTasksService<S, C, D> {
    fn clone(&self) -> Self {
        Self { offload: self.offload.clone() }
    }
}

impl<S: fmt::Debug, C, D> fmt::Debug for BackgroundTasksService<S, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasksService").field("offload", &self.offload).finish()
    }
}

impl<S, C, D> Service<Request<Body>> for BackgroundTasksService<S, C, D>
where
    Offload<S, HttpHooks<C, D>>: Service<Request<Body>>,
{
    type Response = <Offload<S, HttpHooks<C, D>> as Service<Request<Body>>>::Response;
    type Error = <Offload<S, HttpHooks<C, D>> as Service<Request<Body>>>::Error;
    type Future = <Offload<S, HttpHooks<C, D>> as Service<Request<Body>>>::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.offload.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Most requests have no body, and need no watch.
        if request.body().is_end_stream() {
            self.offload.call(request)
        } else {
            self.offload.call(watch_body(request).map(Body::new))
        }
    }
}
