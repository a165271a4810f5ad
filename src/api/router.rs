use std::fmt;
use std::sync::Arc;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa::openapi::server::Server;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::cache::Cache;
use super::handlers::{
    __path_get_background_task, __path_list_background_tasks, get_background_task, list_background_tasks,
    method_not_allowed,
};
use super::openapi::{Security, base, secure};
use super::prefix::Prefix;
use super::state::Api;
use crate::http::{DescribeRequest, Identity, RespondAccepted};
use crate::manager::TaskManager;

/// The HTTP side of a [`TaskManager`]: the layer that hands slow calls over, and the routes that show their tasks.
///
/// Both are made from one value that does not change, so that they agree on who makes a request and on where the routes
/// are. The [builder](Self::builder) sets both.
///
/// | method | what it makes |
/// | --- | --- |
/// | `layer` | the layer that answers `202 Accepted` after a timeout, with the routes as its `Location` |
/// | [`describe_requests`](Self::describe_requests), [`respond_accepted`](Self::respond_accepted) | the hooks of that layer, for a stack without axum |
/// | [`router`](Self::router), [`openapi_router`](Self::openapi_router) | the two endpoints |
/// | [`openapi`](Self::openapi), `swagger_ui` | their document |
///
/// See [the module](super) for examples. Cloning is cheap, and each method can be called any number of times: all that
/// they make reads from the same manager.
///
/// A value that has made a layer cannot get another identity afterwards:
///
/// ```compile_fail
/// # use std::time::Duration;
/// # use tower_offload::http::Identity;
/// # use tower_offload::{BackgroundTasks, TaskManager};
/// let tasks = BackgroundTasks::new(TaskManager::new());
/// let layer = tasks.layer(Duration::from_secs(10));
/// let routes = tasks.identify(Identity::extension_only()).router::<()>();
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until a layer or a router is made of it"]
pub struct BackgroundTasks {
    pub(super) api: Api,
    security: Option<Security>,
    prefix: Prefix,
}

impl BackgroundTasks {
    pub(super) fn of(
        manager: TaskManager,
        identity: Identity,
        security: Option<Security>,
        prefix: Prefix,
    ) -> Self {
        let api = Api { manager, identity, cache: Arc::new(Cache::new()) };
        Self { api, security, prefix }
    }

    /// The manager of the tasks.
    #[must_use]
    pub fn manager(&self) -> &TaskManager {
        &self.api.manager
    }

    /// Who makes a request.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.api.identity
    }

    /// The path in front of `/background-tasks`, percent-encoded: empty, or with a slash at its beginning and none
    /// at its end.
    #[must_use]
    pub fn mounted_at(&self) -> &str {
        self.prefix.as_str()
    }

    /// The describer for these routes: who makes a request, as they see it. A request to the routes themselves stays in the
    /// foreground.
    ///
    /// `layer` has it. Give it, and [`respond_accepted`](Self::respond_accepted), to a layer for another stack than axum:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_offload::http::Identity;
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let manager = TaskManager::new();
    /// let tasks = BackgroundTasks::builder(manager.clone()).identify(Identity::extension_only()).build();
    /// let layer = tower_offload::http::layer(manager, Duration::from_secs(10))
    ///     .describe(tasks.describe_requests())
    ///     .respond(tasks.respond_accepted());
    /// # let _ = layer;
    /// ```
    pub fn describe_requests(&self) -> DescribeRequest {
        self.own(DescribeRequest::new())
    }

    /// The describer with the identity and the paths of these routes, whatever it had before.
    pub(crate) fn own(&self, describe: DescribeRequest) -> DescribeRequest {
        describe.identity(self.api.identity.clone()).task_routes(self.prefix.routes())
    }

    /// The responder for these routes: its `Location` is that of the task's record. See
    /// [`describe_requests`](Self::describe_requests).
    pub fn respond_accepted(&self) -> RespondAccepted {
        RespondAccepted::new().location_prefix(self.mounted_at())
    }

    /// The routes, for any axum router.
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.prefix.nest(self.routes().into())
    }

    /// The routes with their document, to be merged into the host's own.
    ///
    /// The document names no server, so that the host's servers stay as they are.
    pub fn openapi_router<S>(&self) -> OpenApiRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.prefix.nest_documented(self.routes())
    }

    /// The OpenAPI 3.1 document of the routes alone, with the [prefix](super::BackgroundTasksBuilder::prefix), or else `/`, as its server.
    ///
    /// ```
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let document = BackgroundTasks::builder(TaskManager::new()).prefix("/v1").build().openapi();
    /// let json = document.to_json().unwrap();
    /// assert!(json.contains(r#""openapi":"3.1.0""#) && json.contains(r#""servers":[{"url":"/v1"}]"#));
    /// ```
    #[must_use]
    pub fn openapi(&self) -> OpenApi {
        let (_, mut document) = self.routes::<()>().split_for_parts();
        let server = if self.prefix.is_empty() { "/" } else { self.prefix.as_str() };
        document.servers = Some(vec![Server::new(server)]);
        document
    }

    /// A browser's view of the document, to be merged next to the [routes](Self::router): the page at
    /// `{prefix}/swagger-ui/`, the document at `{prefix}/api-docs/openapi.json`.
    #[cfg(feature = "swagger-ui")]
    #[cfg_attr(docsrs, doc(cfg(feature = "swagger-ui")))]
    pub fn swagger_ui(&self) -> super::SwaggerUi {
        let prefix = self.prefix.as_str();
        super::SwaggerUi::new(self.openapi())
            .page_at(&format!("{prefix}/swagger-ui"))
            .document_at(&format!("{prefix}/api-docs/openapi.json"))
    }

    /// Without the prefix.
    fn routes<S>(&self) -> OpenApiRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let list = routes!(list_background_tasks).map(|list| list.fallback(method_not_allowed));
        let get = routes!(get_background_task).map(|get| get.fallback(method_not_allowed));
        let security = self.security.as_ref();
        let mut router = OpenApiRouter::with_openapi(base(security)).routes(list).routes(get);
        secure(router.get_openapi_mut(), security);
        router.with_state(self.api.clone())
    }
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasks")
            .field("manager", &self.api.manager)
            .field("identity", &self.api.identity)
            .field("prefix", &self.mounted_at())
            .finish_non_exhaustive()
    }
}
