use std::fmt;

use utoipa::openapi::security::SecurityScheme;

use super::openapi::Security;
use super::prefix::Prefix;
use super::router::BackgroundTasks;
use crate::http::Identity;
use crate::manager::TaskManager;

/// Builds a [`BackgroundTasks`]: what its layer and its routes have to agree on is set here, once.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use axum::routing::post;
/// use tower_offload::http::Identity;
/// use tower_offload::{BackgroundTasks, TaskManager};
///
/// let tasks = BackgroundTasks::builder(TaskManager::new())
///     .identify(Identity::extension_only())
///     .prefix("/api/v1")
///     .build();
/// // GET /api/v1/background-tasks
/// let app: Router = Router::new()
///     .route("/reports", post(async || "the report"))
///     .layer(tasks.layer(Duration::from_secs(10)))
///     .merge(tasks.router());
/// ```
#[must_use = "it does nothing until `build` is called"]
pub struct BackgroundTasksBuilder {
    manager: TaskManager,
    identity: Identity,
    /// `None`: as the identity says.
    security: Option<Security>,
    prefix: Prefix,
}

impl BackgroundTasks {
    /// The tasks of `manager` with all defaults: at `/background-tasks`, for users as [`Identity::new`] finds them.
    pub fn new(manager: TaskManager) -> Self {
        Self::builder(manager).build()
    }

    /// A builder, to say who makes a request and where the routes are.
    pub fn builder(manager: TaskManager) -> BackgroundTasksBuilder {
        let identity = Identity::new();
        BackgroundTasksBuilder { manager, identity, security: None, prefix: Prefix::default() }
    }
}

impl BackgroundTasksBuilder {
    /// Who makes a request, for the layer and for the routes: an [`Identity`], or an
    /// [`IdentifyUser`](crate::http::IdentifyUser) such as a closure. Default: [`Identity::new`], which believes the
    /// header `X-User-ID` where the request has no [`Caller`](crate::http::Caller).
    pub fn identify(mut self, identity: impl Into<Identity>) -> Self {
        self.identity = identity.into();
        self
    }

    /// Where the routes are mounted: the whole path in front of `/background-tasks`, as clients see it. Default: empty.
    ///
    /// The routes, the `Location` of the layer's 202, the paths of
    /// [`openapi_router`](BackgroundTasks::openapi_router), the server of [`openapi`](BackgroundTasks::openapi), and the
    /// paths of Swagger UI have it. So merge the routes, and do not nest them. Slashes at both ends make no difference;
    /// what cannot stand in the path of a URI, and what axum would take for a parameter, is percent-encoded.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Prefix::new(prefix);
        self
    }

    /// How the document says that callers identify themselves. Default: a scheme `userId` for the header that the
    /// identity reads; none for [`Identity::extension_only`] and for closures, so that the scheme that the host's document
    /// has for all its operations applies.
    ///
    /// A host whose own document has a scheme of this name keeps its own when it merges the document of the routes.
    ///
    /// ```
    /// use tower_offload::http::Identity;
    /// use tower_offload::{BackgroundTasks, TaskManager};
    /// use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
    ///
    /// let tasks = BackgroundTasks::builder(TaskManager::new())
    ///     // The host's middleware inserts a `Caller` when the token is good.
    ///     .identify(Identity::extension_only())
    ///     .security_scheme("bearerAuth", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
    ///     .build();
    /// # let json = tasks.openapi().to_json().unwrap();
    /// # assert!(json.contains(r#""security":[{"bearerAuth":[]}]"#) && !json.contains("userId"), "{json}");
    /// ```
    pub fn security_scheme(mut self, name: impl Into<String>, scheme: SecurityScheme) -> Self {
        self.security = Some(Security { name: name.into(), scheme });
        self
    }

    /// Builds it.
    pub fn build(self) -> BackgroundTasks {
        let Self { manager, identity, security, prefix } = self;
        let security = security.or_else(|| Security::of(&identity));
        BackgroundTasks::of(manager, identity, security, prefix)
    }
}

impl fmt::Debug for BackgroundTasksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasksBuilder")
            .field("manager", &self.manager)
            .field("identity", &self.identity)
            .field("prefix", &self.prefix.as_str())
            .finish_non_exhaustive()
    }
}
