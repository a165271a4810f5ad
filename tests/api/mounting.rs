use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::support::{Answer, Server, listed, start};

/// A host with a state of its own, a fallback, and a 405 of its own.
#[derive(Clone)]
struct Host(&'static str);

async fn greet(state: State<Host>) -> &'static str {
    state.0.0
}

fn host() -> Router<Host> {
    Router::new().route("/", get(greet)).fallback(|| async { "fallback" })
}

fn tasks() -> BackgroundTasks {
    let manager = TaskManager::new();
    start(&manager, TaskMeta::new("alice", "Bash"));
    BackgroundTasks::new(manager)
}

async fn works_at(server: &Server, prefix: &str) {
    let answer = server.get("alice", &format!("{prefix}/background-tasks")).await;
    assert_eq!(listed(&answer), ["Bash"]);
    let id = answer.json()["tasks"][0]["task_id"].as_str().unwrap().to_owned();
    assert_eq!(server.get("alice", &format!("{prefix}/background-tasks/{id}")).await.status, 200);
    server.get("bob", &format!("{prefix}/background-tasks/{id}")).await.expect_problem(404, "task-not-found");
    let post = server.request("POST", &format!("{prefix}/background-tasks"), &[]).await;
    post.expect_problem(405, "method-not-allowed");
    assert_eq!(post.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn merged_into_a_host() {
    let app = host().merge(tasks().router()).method_not_allowed_fallback(|| async { "the host's 405" });
    let server = Server::start(app.with_state(Host("hello"))).await;
    works_at(&server, "").await;
    assert_eq!(server.get("alice", "/").await.text(), "hello");
    assert_eq!(server.get("alice", "/background-tasks/").await.text(), "fallback");
    assert_eq!(server.request("POST", "/", &[]).await.text(), "the host's 405");
}

#[tokio::test]
async fn nested_in_a_host() {
    let app = host().nest("/v1", tasks().router()).nest("/{tenant}/v2", tasks().router());
    let server = Server::start(app.with_state(Host("hello"))).await;
    works_at(&server, "/v1").await;
    assert_eq!(server.get("alice", "/background-tasks").await.text(), "fallback");
    assert_eq!(server.get("alice", "/acme/v2/background-tasks").await.status, 200);
}

/// A parameter of the prefix is one more that the path has, but not the id.
#[tokio::test]
async fn nested_under_a_parameter() {
    let server = Server::start(Router::new().nest("/{tenant}", tasks().router())).await;
    works_at(&server, "/acme").await;
}

#[derive(utoipa::OpenApi)]
#[openapi(info(title = "Host", version = "9.9.9"), servers((url = "https://example.com/app")), tags((name = "host")))]
struct HostDoc;

#[utoipa::path(get, path = "/ping", responses((status = 200, description = "pong")))]
async fn ping() -> &'static str {
    "pong"
}

fn documented_host() -> OpenApiRouter {
    OpenApiRouter::with_openapi(HostDoc::openapi()).routes(routes!(ping))
}

async fn check_document(router: OpenApiRouter, prefix: &str) {
    let (router, document) = router.split_for_parts();
    let server = Server::start(router).await;
    works_at(&server, prefix).await;

    let document = serde_json::to_value(document).unwrap();
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    let item = format!("{prefix}/background-tasks/{{task_id}}");
    let mut expected = [format!("{prefix}/background-tasks"), item.clone(), "/ping".to_owned()];
    expected.sort();
    assert_eq!(paths, expected.iter().collect::<Vec<_>>());
    let scheme = &document["components"]["securitySchemes"]["userId"];
    assert_eq!(scheme["name"], "X-User-ID", "the operations refer to it");
    assert_eq!(document["paths"][&item]["get"]["security"], json!([{"userId": []}]));
    assert_eq!(document["components"]["schemas"].as_object().unwrap().len(), 5);
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    assert_eq!(tags, ["host", "background-tasks"]);
    // What the host says about itself stays as it is.
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&json!("Host"), &json!("9.9.9")));
    assert_eq!(document["servers"], json!([{"url": "https://example.com/app"}]));
    // Each documented path is served.
    for path in expected {
        let answer: Answer = server.get("alice", &path.replace("{task_id}", "x")).await;
        assert!(
            answer.status == 200 || answer.header("content-type") == Some("application/problem+json"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn merged_into_a_documented_host() {
    check_document(documented_host().merge(tasks().openapi_router()), "").await;
}

#[tokio::test]
async fn nested_in_a_documented_host() {
    check_document(documented_host().nest("/v1", tasks().openapi_router()), "/v1").await;
}

#[tokio::test]
async fn a_documented_host_may_have_a_state() {
    let router = OpenApiRouter::<Host>::with_openapi(HostDoc::openapi()).route("/", get(greet));
    let router = router.merge(tasks().openapi_router()).with_state(Host("hello"));
    let server = Server::start(router.split_for_parts().0).await;
    works_at(&server, "").await;
    assert_eq!(server.get("alice", "/").await.text(), "hello");
}

#[tokio::test]
async fn a_scheme_of_the_hosts_own_name_is_used() {
    use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let tasks = BackgroundTasks::builder(TaskManager::new()).security_scheme("hostLogin", scheme).build();
    let document: Value = serde_json::to_value(tasks.openapi()).unwrap();
    assert_eq!(
        document["components"]["securitySchemes"],
        json!({"hostLogin": {"type": "http", "scheme": "bearer"}})
    );
    for path in document["paths"].as_object().unwrap().values() {
        assert_eq!(path["get"]["security"], json!([{"hostLogin": []}]));
    }
}
