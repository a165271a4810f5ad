use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Path};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::openapi::OpenApi;
use utoipa::openapi::server::Server;
use utoipa_swagger_ui::{Config, serve};

use super::problem::json;

/// An OpenAPI document, and Swagger UI to look at it and to try the requests, with all assets compiled in.
///
/// The page is at `/swagger-ui/` and the document at `/api-docs/openapi.json`, unless told otherwise. Both work under
/// any prefix too: the page finds its document by a relative address, and a document whose only server is `/` names
/// the prefix as its server, so that requests go to where the routes are. Merge it where the routes are merged:
///
/// ```
/// use axum::Router;
/// use tower_offload::{BackgroundTasks, TaskManager};
///
/// let tasks = BackgroundTasks::builder(TaskManager::new()).prefix("/v1").build();
/// let app: Router = Router::new().merge(tasks.router()).merge(tasks.swagger_ui().router());
/// ```
///
/// It shows any document, such as the one of a host that has merged ours:
///
/// ```
/// use axum::Router;
/// use tower_offload::api::{BackgroundTasks, SwaggerUi};
/// use tower_offload::TaskManager;
/// use utoipa_axum::router::OpenApiRouter;
///
/// let tasks = BackgroundTasks::builder(TaskManager::new()).prefix("/v1").build();
/// let (router, document) =
///     OpenApiRouter::<()>::default().merge(tasks.openapi_router()).split_for_parts();
/// let app = router.merge(SwaggerUi::new(document).page_at("/docs").document_at("/openapi.json").router());
/// ```
///
/// The page keeps what was entered under "Authorize" in the browser's local storage. It loads nothing from other
/// hosts; a `Content-Security-Policy` in front has to allow `default-src 'self'`, `style-src 'self' 'unsafe-inline'`
/// and `img-src 'self' data:`.
#[derive(Clone)]
#[must_use = "it does nothing until a router is made of it"]
pub struct SwaggerUi {
    document: OpenApi,
    page: String,
    document_path: String,
}

impl SwaggerUi {
    /// Shows `document`.
    pub fn new(document: OpenApi) -> Self {
        Self { document, page: "/swagger-ui".to_owned(), document_path: "/api-docs/openapi.json".to_owned() }
    }

    /// Where the page is. Slashes around the path make no difference: the page itself is at the path with a slash at
    /// its end, and without one the browser is sent there. Default: `/swagger-ui`.
    pub fn page_at(mut self, path: &str) -> Self {
        self.page = absolute(path);
        self
    }

    /// Where the document is. Default: `/api-docs/openapi.json`.
    pub fn document_at(mut self, path: &str) -> Self {
        self.document_path = absolute(path);
        self
    }

    /// The routes of the page and of the document.
    ///
    /// # Panics
    ///
    /// As [`Router::route`] does, when the two paths are the same or have parameters that clash.
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let config = Config::new([relative(&self.page, &self.document_path)])
            .persist_authorization(true)
            .try_it_out_enabled(true)
            .display_request_duration(true);
        let config = Arc::new(config);
        let page = self.page.trim_end_matches('/');
        let index = {
            let config = Arc::clone(&config);
            get(move || async move { serve_asset("", config) })
        };
        let assets = get(move |Path(Asset { asset })| async move { serve_asset(&asset, config) });
        let document = Arc::new(self.document.clone());
        let path: Arc<str> = self.document_path.as_str().into();
        let document = get(move |OriginalUri(uri): OriginalUri| async move {
            json(
                StatusCode::OK,
                HeaderValue::from_static("application/json"),
                &located(&document, &path, &uri),
            )
        });

        let router = Router::new()
            .route(&self.document_path, document)
            .route(&format!("{page}/"), index)
            .route(&format!("{page}/{{*asset}}"), assets);
        match page.rsplit_once('/') {
            Some((_, last)) => {
                let location = format!("./{last}/");
                router.route(page, get(move || async move { redirect(&location) }))
            }
            None => router,
        }
    }
}

impl fmt::Debug for SwaggerUi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwaggerUi")
            .field("page", &self.page)
            .field("document", &self.document_path)
            .finish_non_exhaustive()
    }
}

/// Named, because a prefix that the host nests us under may have parameters too.
#[derive(Deserialize)]
struct Asset {
    asset: String,
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// From the page, which is a directory, to the document: whatever the prefix of both is.
fn relative(page: &str, document_path: &str) -> String {
    let depth = page.split('/').filter(|segment| !segment.is_empty()).count();
    format!("./{}{}", "../".repeat(depth), document_path.trim_start_matches('/'))
}

/// Relative for the same reason: the prefix is known to the browser alone.
fn redirect(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The document as it is right for where it was asked for.
fn located(document: &OpenApi, path: &str, uri: &http::Uri) -> OpenApi {
    let mut document = document.clone();
    // A host that names its servers knows better.
    if document.servers.as_ref().is_none_or(|servers| *servers == [Server::new("/")]) {
        let prefix = uri.path().strip_suffix(path).filter(|prefix| !prefix.is_empty());
        document.servers = Some(vec![Server::new(prefix.unwrap_or("/"))]);
    }
    document
}

fn serve_asset(path: &str, config: Arc<Config<'static>>) -> Response {
    match serve(path, config) {
        Ok(Some(file)) => {
            // Compressed if the application turns that on in `utoipa-swagger-ui`.
            let encoding = file.gzpipped.then_some([(header::CONTENT_ENCODING, "gzip")]);
            let headers = [(header::CONTENT_TYPE, file.content_type)];
            match encoding {
                Some(encoding) => (encoding, headers, file.bytes).into_response(),
                None => (headers, file.bytes).into_response(),
            }
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, path, "asset of Swagger UI could not be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_finds_its_document_from_any_depth() {
        assert_eq!(relative("/swagger-ui", "/api-docs/openapi.json"), "./../api-docs/openapi.json");
        assert_eq!(relative(&absolute("docs/ui/"), "/d.json"), "./../../d.json");
        assert_eq!(relative(&absolute("/"), "/d.json"), "./d.json");
    }

    #[test]
    fn only_the_server_that_means_nothing_is_replaced() {
        let urls = |servers: Option<Vec<Server>>, uri: &'static str| {
            let document = utoipa::openapi::OpenApiBuilder::new().servers(servers).build();
            let located = located(&document, "/d.json", &http::Uri::from_static(uri));
            located.servers.unwrap().into_iter().map(|server| server.url).collect::<Vec<_>>()
        };
        assert_eq!(urls(None, "/d.json"), ["/"]);
        assert_eq!(urls(Some(vec![Server::new("/")]), "/v1/d.json?x"), ["/v1"]);
        assert_eq!(urls(Some(vec![Server::new("/v2")]), "/v1/d.json"), ["/v2"]);
    }
}
