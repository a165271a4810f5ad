use std::sync::Arc;

use axum::Router;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use utoipa_axum::router::OpenApiRouter;

/// What cannot stand in the path of a URI, and what axum would take for a parameter. Percent signs can stand: a prefix
/// may be encoded already.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'*')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The path that the routes are mounted at: empty, or with a slash at its beginning and none at its end.
#[derive(Clone, Debug)]
pub(super) struct Prefix(Arc<str>);

impl Prefix {
    pub(super) fn new(prefix: &str) -> Self {
        let segments = prefix.split('/').filter(|segment| !segment.is_empty());
        Self(
            segments
                .fold(String::new(), |path, segment| {
                    // At the beginning of a segment axum refuses a colon, which was a parameter once.
                    let (colon, segment) =
                        segment.strip_prefix(':').map_or(("", segment), |segment| ("%3A", segment));
                    format!("{path}/{colon}{}", utf8_percent_encode(segment, NOT_IN_A_PATH))
                })
                .into(),
        )
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the list, which all routes begin with.
    pub(super) fn routes(&self) -> String {
        format!("{}/background-tasks", self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn nest<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        if self.is_empty() { routes } else { Router::new().nest(&self.0, routes) }
    }

    pub(super) fn nest_documented<S>(&self, routes: OpenApiRouter<S>) -> OpenApiRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        if self.is_empty() {
            return routes;
        }
        // What the document says about itself stays: `nest` takes over paths and components only.
        let mut document = routes.get_openapi().clone();
        document.paths = utoipa::openapi::Paths::new();
        OpenApiRouter::with_openapi(document).nest(&self.0, routes)
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self::new("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_path_that_can_be_mounted() {
        for (prefix, path) in [
            ("", ""),
            ("/", ""),
            ("//", ""),
            ("api", "/api"),
            ("/api/v1/", "/api/v1"),
            ("//a///b", "/a/b"),
            ("/a%20b", "/a%20b"),
            ("/a b/{x}/:y/*z/é?q#f", "/a%20b/%7Bx%7D/%3Ay/%2Az/%C3%A9%3Fq%23f"),
        ] {
            let prefix = Prefix::new(prefix);
            assert_eq!(prefix.as_str(), path);
            let _ = prefix.nest(Router::<()>::new());
            let _ = prefix.nest_documented(OpenApiRouter::<()>::new());
        }
    }
}
