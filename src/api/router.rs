use std::fmt;
use std::sync::Arc;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::SecurityScheme;
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
use crate::http::Identity;
use crate::manager::TaskManager;

/// The HTTP side of a [`TaskManager`]: the layer that hands slow calls over, and the routes that show their tasks.
///
/// Both are made from one value, so that they agree on who makes a request and on where the routes are:
///
/// | method | what it makes |
/// | --- | --- |
/// | `layer` | the layer that answers `202 Accepted` after a timeout, with the routes as its `Location` |
/// | [`router`](Self::router), [`openapi_router`](Self::openapi_router) | the two endpoints |
/// | [`openapi`](Self::openapi), `swagger_ui` | their document |
///
/// See [the module](super) for examples. Cloning is cheap, and each method can be called any number of times: all that
/// they make reads from the same manager.
#[derive(Clone)]
#[must_use = "it does nothing until a layer or a router is made of it"]
pub struct BackgroundTasks {
    pub(super) api: Api,
    security: Option<Security>,
    prefix: Prefix,
}

impl BackgroundTasks {
    /// The tasks of `manager`, at `/background-tasks`, for users as [`Identity::new`] finds them.
    pub fn new(manager: TaskManager) -> Self {
        let identity = Identity::new();
        let security = Security::of(&identity);
        let api = Api { manager, identity, cache: Arc::new(Cache::new()) };
        Self { api, security, prefix: Prefix::default() }
    }

    /// Who makes a request, for the layer and for the routes: an [`Identity`], or an
    /// [`IdentifyUser`](crate::http::IdentifyUser) such as a closure. Default: [`Identity::new`], which believes the
    /// header `X-User-ID` where the request has no [`Caller`](crate::http::Caller).
    ///
    /// The document's security scheme follows: the header, if the identity has one, else none.
    pub fn identify(mut self, identity: impl Into<Identity>) -> Self {
        self.api.identity = identity.into();
        self.security = Security::of(&self.api.identity);
        self
    }

    /// Where the routes are mounted: the whole path in front of `/background-tasks`, as clients see it. Default: empty.
    ///
    /// The routes, the `Location` of the layer's 202, the paths of [`openapi_router`](Self::openapi_router), the server
    /// of [`openapi`](Self::openapi), and the paths of Swagger UI have it. So merge the routes, and do not nest them.
    /// Slashes at both ends make no difference; what cannot stand in the path of a URI, and what axum would take for a
    /// parameter, is percent-encoded.
    ///
    /// ```
    /// use axum::Router;
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let tasks = BackgroundTasks::new(TaskManager::new()).prefix("/api/v1");
    /// // GET /api/v1/background-tasks
    /// let app: Router = Router::new().merge(tasks.router());
    /// ```
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Prefix::new(prefix);
        self
    }

    /// What the document says about the way to tell who asks. Default: the name `userId` with the header that the
    /// identity reads; nothing for [`Identity::extension_only`] and for closures, so that what the host's document
    /// says for all its operations holds. Call it after [`identify`](Self::identify).
    ///
    /// A host whose own document has a scheme of this name keeps its own when it merges ours.
    ///
    /// ```
    /// use tower_offload::api::BackgroundTasks;
    /// use tower_offload::http::Identity;
    /// use tower_offload::TaskManager;
    /// use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
    ///
    /// let tasks = BackgroundTasks::new(TaskManager::new())
    ///     // The host's middleware inserts a `Caller` when the token is good.
    ///     .identify(Identity::extension_only())
    ///     .security_scheme("bearerAuth", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    /// # let json = tasks.openapi().to_json().unwrap();
    /// # assert!(json.contains(r#""security":[{"bearerAuth":[]}]"#) && !json.contains("userId"), "{json}");
    /// ```
    pub fn security_scheme(mut self, name: impl Into<String>, scheme: SecurityScheme) -> Self {
        self.security = Some(Security { name: name.into(), scheme });
        self
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

    /// The OpenAPI 3.1 document of the routes alone, with the [prefix](Self::prefix), or else `/`, as its server.
    ///
    /// ```
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let document = BackgroundTasks::new(TaskManager::new()).prefix("/v1").openapi();
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
