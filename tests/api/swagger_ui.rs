use axum::Router;
use serde_json::{Value, json};
use tower_offload::api::SwaggerUi;
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};
use utoipa_axum::router::OpenApiRouter;

use crate::support::{Answer, Server, listed, start};

fn tasks() -> BackgroundTasks {
    let manager = TaskManager::new();
    start(&manager, TaskMeta::new("alice", "Bash"));
    BackgroundTasks::new(manager)
}

/// What a browser makes of a relative reference on a page.
fn resolve(page: &str, reference: &str) -> String {
    if reference.starts_with('/') {
        return reference.to_owned();
    }
    let first = reference.split('/').next().unwrap();
    assert!(!first.contains(':'), "{reference} is absolute, with {first} as the scheme");
    let mut segments: Vec<_> = page.split('/').collect();
    segments.pop();
    for segment in reference.split('/') {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

async fn browse(server: &Server, path: &str) -> Answer {
    server.request("GET", path, &[]).await
}

/// Opens the page as a browser would, follows it to its document, and calls what the document says.
async fn works_at(server: &Server, link: &str, operation: &str) -> Value {
    let redirect = browse(server, link).await;
    let page = match redirect.header("location") {
        Some(location) => {
            assert_eq!(redirect.status, 307);
            resolve(link, location)
        }
        None => link.to_owned(),
    };
    let index = browse(server, &page).await;
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html")));
    let mut scripts = 0;
    for attribute in ["src=\"", "href=\""] {
        for reference in index.text().split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(!reference.contains("//"), "nothing is loaded from elsewhere: {reference}");
            let asset = browse(server, &resolve(&page, reference)).await;
            assert_eq!(asset.status, 200, "{reference}");
            assert!(!asset.body.is_empty());
            scripts += usize::from(asset.header("content-type").unwrap().contains("javascript"));
        }
    }
    assert!(scripts >= 2);

    let config = browse(server, &resolve(&page, "./swagger-initializer.js")).await;
    let config = config.text();
    for setting in ["persistAuthorization", "tryItOutEnabled", "displayRequestDuration"] {
        assert!(config.contains(&format!("\"{setting}\": true")), "{config}");
    }
    let url = config.split("\"url\": \"").nth(1).unwrap().split('"').next().unwrap();
    let document = browse(server, &resolve(&page, url)).await;
    assert_eq!((document.status, document.header("content-type")), (200, Some("application/json")));
    let document = document.json();
    assert!(document["paths"][operation].is_object(), "{document}");
    let base = document["servers"][0]["url"].as_str().unwrap();
    let call = format!("{}{operation}", base.trim_end_matches('/'));
    assert_eq!(listed(&server.get("alice", &call).await), ["Bash"], "{call}");
    document
}

#[tokio::test]
async fn served_at_the_top() {
    let tasks = tasks();
    let server = Server::start(tasks.router().merge(tasks.swagger_ui().router())).await;
    let document = works_at(&server, "/swagger-ui", "/background-tasks").await;
    assert_eq!(document, serde_json::to_value(tasks.openapi()).unwrap());
    works_at(&server, "/swagger-ui/", "/background-tasks").await;
    assert_eq!(browse(&server, "/api-docs/openapi.json").await.json(), document);
    for missing in
        ["/swagger-ui/missing.js", "/swagger-ui/../Cargo.toml", "/swagger-ui//etc/passwd", "/swagger-ui/%ff"]
    {
        assert!([404, 400].contains(&browse(&server, missing).await.status), "{missing}");
    }
}

#[tokio::test]
async fn served_under_a_prefix() {
    let tasks = tasks();
    let router = tasks.router().merge(tasks.swagger_ui().router());
    let server = Server::start(Router::new().nest("/a", router.clone()).nest("/b/{c}", router)).await;
    for prefix in ["/a", "/b/x%20y"] {
        for slash in ["", "/"] {
            let link = format!("{prefix}/swagger-ui{slash}");
            let document = works_at(&server, &link, "/background-tasks").await;
            assert_eq!(document["servers"], json!([{"url": prefix}]));
        }
    }
}

#[tokio::test]
async fn served_at_chosen_paths() {
    let tasks = tasks();
    for (page, document, link) in [
        ("/docs", "/openapi.json", "/docs"),
        ("docs/tasks/", "docs/openapi.json", "/docs/tasks"),
        ("/a:b", "/d", "/a:b"),
        ("/", "/openapi.json", "/"),
        ("", "/deep/er/openapi.json", "/"),
    ] {
        let ui = tasks.swagger_ui().page_at(page).document_at(document);
        let server = Server::start(tasks.router().merge(ui.router())).await;
        works_at(&server, link, "/background-tasks").await;
        let path = format!("/{}", document.trim_matches('/'));
        assert_eq!(browse(&server, &path).await.status, 200);
    }
}

#[tokio::test]
async fn the_document_of_a_host_is_shown_with_its_paths() {
    let router = OpenApiRouter::<()>::default().nest("/v1", tasks().openapi_router());
    let (router, document) = router.split_for_parts();
    let server = Server::start(router.merge(SwaggerUi::new(document).router())).await;
    works_at(&server, "/swagger-ui", "/v1/background-tasks").await;
}

#[tokio::test]
async fn it_is_not_served_unless_asked_for() {
    let server = Server::start(tasks().router()).await;
    for path in ["/swagger-ui", "/swagger-ui/", "/api-docs/openapi.json"] {
        assert_eq!(browse(&server, path).await.status, 404);
    }
}
