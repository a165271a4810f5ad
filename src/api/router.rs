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
use super::identity::{IdentifyUser, UserIdHeader};
use super::openapi::{SECURITY, Security, base};
use crate::manager::TaskManager;

/// What the handlers need. Their state, so that the host's can be any type.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) manager: TaskManager,
    pub(super) identity: Arc<dyn IdentifyUser>,
    /// Of lists of this manager and no other: versions mean nothing elsewhere.
    pub(super) cache: Arc<Cache>,
}

/// Makes the router of the two endpoints, and their document. See [the module](super) for how to mount it.
///
/// Each method makes a new router or document; all of them read from the same manager.
#[derive(Clone)]
#[must_use = "it does nothing until a router is made of it"]
pub struct BackgroundTasks {
    pub(super) api: Api,
    security: Security,
}

impl BackgroundTasks {
    /// The tasks of `manager`, for callers that the header `X-User-ID` names.
    pub fn new(manager: TaskManager) -> Self {
        let identity = UserIdHeader::new();
        let security = Security { name: SECURITY.to_owned(), scheme: identity.security_scheme() };
        let api = Api { manager, identity: Arc::new(identity), cache: Arc::new(Cache::new()) };
        Self { api, security }
    }

    /// Another way to tell who asks. Default: [`UserIdHeader`].
    pub fn identify(mut self, identity: impl IdentifyUser) -> Self {
        self.security.scheme = identity.security_scheme();
        self.api.identity = Arc::new(identity);
        self
    }

    /// What the document says about the way to tell who asks. Default: the name `userId`, with the scheme that
    /// [`IdentifyUser::security_scheme`] answers. Call it after [`identify`](Self::identify).
    ///
    /// A host whose own document has a scheme of this name keeps its own when it merges ours.
    ///
    /// ```
    /// use tower_offload::api::{BackgroundTasks, Unidentified};
    /// use tower_offload::TaskManager;
    /// use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
    ///
    /// /// What the host's middleware leaves in the request when the token is good.
    /// #[derive(Clone)]
    /// struct Login(String);
    ///
    /// let tasks = BackgroundTasks::new(TaskManager::new())
    ///     .identify(|parts: &http::request::Parts| match parts.extensions.get::<Login>() {
    ///         Some(Login(user)) => Ok(user.clone()),
    ///         None => Err(Unidentified::new("Log in first.")
    ///             .with_challenge(http::HeaderValue::from_static("Bearer"))),
    ///     })
    ///     .security_scheme("bearerAuth", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    /// # let document = tasks.openapi();
    /// # let json = document.to_json().unwrap();
    /// # assert!(json.contains(r#""security":[{"bearerAuth":[]}]"#) && !json.contains("userId"), "{json}");
    /// ```
    pub fn security_scheme(mut self, name: impl Into<String>, scheme: SecurityScheme) -> Self {
        self.security = Security { name: name.into(), scheme };
        self
    }

    /// The routes, for any axum router.
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.openapi_router().into()
    }

    /// The routes with their document, to be merged into or nested in the host's own.
    ///
    /// The document names no server, so that the host's servers stay as they are.
    pub fn openapi_router<S>(&self) -> OpenApiRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let list = routes!(list_background_tasks).map(|list| list.fallback(method_not_allowed));
        let get = routes!(get_background_task).map(|get| get.fallback(method_not_allowed));
        let mut router = OpenApiRouter::with_openapi(base(&self.security)).routes(list).routes(get);
        self.security.apply(router.get_openapi_mut());
        router.with_state(self.api.clone())
    }

    /// The OpenAPI 3.1 document of the routes alone, with the server `/`.
    ///
    /// ```
    /// use tower_offload::{BackgroundTasks, TaskManager};
    ///
    /// let document = BackgroundTasks::new(TaskManager::new()).openapi();
    /// assert!(document.to_pretty_json().unwrap().contains(r#""openapi": "3.1.0""#));
    /// ```
    #[must_use]
    pub fn openapi(&self) -> OpenApi {
        let (_, mut document) = self.openapi_router::<()>().split_for_parts();
        document.servers = Some(vec![Server::new("/")]);
        document
    }

    /// A browser's view of the document, to be merged next to the [routes](Self::router).
    #[cfg(feature = "swagger-ui")]
    #[cfg_attr(docsrs, doc(cfg(feature = "swagger-ui")))]
    pub fn swagger_ui(&self) -> super::SwaggerUi {
        super::SwaggerUi::new(self.openapi())
    }
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasks").field("manager", &self.api.manager).finish_non_exhaustive()
    }
}
