//! The OpenAPI document: equal to the committed files, complete, and true of what is really answered.

#[path = "openapi/down_convert.rs"]
mod down_convert;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::body::Body;
use axum::response::IntoResponse;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_offload::api::ProblemDetails;
use tower_offload::task::{FailureReason, Outcome, Scope};
use tower_offload::{BackgroundTasks, TaskId, TaskManager, TaskMeta, TaskStatus};
use utoipa::openapi::OpenApi;

fn document() -> OpenApi {
    BackgroundTasks::new(TaskManager::new()).openapi()
}

fn document_value() -> Value {
    serde_json::to_value(document()).unwrap()
}

#[test]
fn committed_files_are_those_of_the_router() {
    let document = document();
    let rendition = down_convert::to_3_0(&serde_json::to_value(&document).unwrap());
    let texts = [
        ("background-tasks.json", document.to_pretty_json().unwrap() + "\n"),
        ("background-tasks.yaml", document.to_yaml().unwrap()),
        ("background-tasks-3.0.json", serde_json::to_string_pretty(&rendition).unwrap() + "\n"),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    let update = std::env::var_os("UPDATE_OPENAPI").is_some_and(|value| !value.is_empty() && value != "0");
    for (name, text) in texts {
        let file = folder.join(name);
        if update {
            std::fs::write(file, text).unwrap();
            continue;
        }
        // A checkout may have changed the ends of the lines.
        let committed = std::fs::read_to_string(file).unwrap_or_default().replace("\r\n", "\n");
        if let Some(line) =
            (1..).zip(diff(&committed, &text)).find_map(|(line, same)| (!same).then_some(line))
        {
            panic!(
                "openapi/{name} is not what the router serves, from line {line} on; to rewrite it:\n    \
                 UPDATE_OPENAPI=1 cargo test --features api --test openapi"
            );
        }
    }
}

/// For each line whether it is the same in both.
fn diff<'a>(a: &'a str, b: &'a str) -> impl Iterator<Item = bool> + 'a {
    let (a, b) = (a.split('\n').map(Some), b.split('\n').map(Some));
    let count = a.clone().count().max(b.clone().count());
    let pad = std::iter::repeat(None);
    a.chain(pad.clone()).zip(b.chain(pad)).take(count).map(|(a, b)| a == b)
}

fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().values().map(move |op| (&**path, op)))
        .collect()
}

#[test]
fn operations_are_complete() {
    let document = document_value();
    let mut ids = BTreeSet::new();
    for (path, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
        assert_eq!(operation["tags"], json!(["background-tasks"]));
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(operation["description"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(operation["security"], json!([{"userId": []}]));
        let responses = operation["responses"].as_object().unwrap();
        let statuses: Vec<_> = responses.keys().map(String::as_str).collect();
        let item = path.ends_with('}');
        assert_eq!(
            statuses,
            if item { vec!["200", "400", "401", "404", "503"] } else { vec!["200", "400", "401", "503"] }
        );
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} {status}");
            let content = response["content"].as_object().unwrap();
            let kind = if status == "200" { "application/json" } else { "application/problem+json" };
            assert_eq!(content.keys().collect::<Vec<_>>(), [kind]);
        }
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["description"].is_string(), "{parameter}");
            // Swagger UI fills it in: what has to be there needs one, a filter must start out empty.
            assert_eq!(parameter["example"].is_string(), parameter["required"] == true, "{parameter}");
            assert_eq!(parameter["schema"]["type"], "string", "a parameter is never null");
        }
    }
    assert_eq!(ids, BTreeSet::from(["getBackgroundTask", "listBackgroundTasks"]));
}

#[test]
fn the_head_of_the_document_is_ours() {
    let document = document_value();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "Background tasks");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["license"]["identifier"], "MIT OR Apache-2.0");
    assert_eq!(document["servers"], json!([{"url": "/"}]));
    assert_eq!(document["tags"][0]["name"], "background-tasks");
    assert!(document["tags"][0]["description"].is_string());
    let scheme = &document["components"]["securitySchemes"]["userId"];
    assert_eq!(
        (&scheme["type"], &scheme["in"], &scheme["name"]),
        (&json!("apiKey"), &json!("header"), &json!("X-User-ID"))
    );
}

#[test]
fn every_reference_resolves_and_every_schema_is_used() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    for document in [document_value(), down_convert::to_3_0(&document_value())] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let names = document["components"]["schemas"].as_object().unwrap().keys();
        let names: Vec<_> = names.map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), names);
    }
}

#[test]
fn schemas_say_what_clients_rely_on() {
    let document = document_value();
    let schemas = &document["components"]["schemas"];
    let names: Vec<_> = schemas.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "BackgroundTaskFailureReason",
            "BackgroundTaskInfo",
            "BackgroundTaskStatus",
            "ListBackgroundTasksResponse",
            "ProblemDetails"
        ]
    );

    let info = &schemas["BackgroundTaskInfo"];
    let fields = info["properties"].as_object().unwrap();
    let required: BTreeSet<_> =
        info["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(required, fields.keys().map(String::as_str).collect(), "all members are always there");
    for name in ["completed_at", "error_summary", "cancel_requested_at", "call_id"] {
        assert_eq!(fields[name]["type"], json!(["string", "null"]), "{name}");
    }
    for name in ["started_at", "completed_at", "cancel_requested_at"] {
        assert_eq!(fields[name]["format"], "date-time", "{name}");
    }
    assert_eq!(fields["status"]["$ref"], "#/components/schemas/BackgroundTaskStatus");
    assert_eq!(
        fields["failure_reason"]["oneOf"][0]["$ref"],
        "#/components/schemas/BackgroundTaskFailureReason"
    );
    assert_eq!(fields["failure_reason"]["oneOf"][1], json!({"type": "null"}));

    let total = &schemas["ListBackgroundTasksResponse"]["properties"]["total"];
    assert_eq!((&total["format"], &total["minimum"]), (&json!("int64"), &json!(0)));
    let problem = &schemas["ProblemDetails"];
    assert_eq!(problem["required"], json!(["type", "title", "status", "detail"]));
    assert_eq!(problem["properties"]["status"]["format"], "int32");

    let statuses: Vec<_> = TaskStatus::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(schemas["BackgroundTaskStatus"]["enum"], json!(statuses));
    let reasons = [
        FailureReason::Error,
        FailureReason::Panic,
        FailureReason::TimedOut,
        FailureReason::WorkerLost,
        FailureReason::Shutdown,
    ];
    // Open: a client has to take a reason of a newer version.
    let reason = &schemas["BackgroundTaskFailureReason"];
    assert_eq!((&reason["type"], &reason["enum"]), (&json!("string"), &Value::Null));
    for known in &reasons {
        assert!(reason["description"].as_str().unwrap().contains(&format!("`{known}`")), "{known}");
    }
}

#[test]
fn the_3_0_rendition_has_no_3_1_left_in_it() {
    let rendition = down_convert::to_3_0(&document_value());
    let info = &rendition["components"]["schemas"]["BackgroundTaskInfo"]["properties"];
    assert_eq!(info["completed_at"]["type"], "string");
    assert_eq!(info["completed_at"]["nullable"], true);
    assert_eq!(info["status"]["allOf"][0]["$ref"], "#/components/schemas/BackgroundTaskStatus");
    assert_eq!(info["failure_reason"]["oneOf"][1], json!({"enum": [null]}));
    assert_eq!(info["task_id"]["example"], "5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21");
    let text = rendition.to_string();
    assert!(
        !text.contains("\"null\"") && !text.contains("identifier") && !text.contains("\"examples\""),
        "{text}"
    );
}

/// Checks bodies against the document.
struct Checker {
    document: Value,
}

impl Checker {
    fn check(&self, schema: &Value, value: &Value) {
        let mut root = schema.clone();
        root["components"] = self.document["components"].clone();
        let options =
            jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        let validator = options.build(&root).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {value:#}");
    }

    /// The status, the media type, each header that is not of the transport and the body must be documented.
    async fn check_response(&self, path: &str, response: Response<Body>) -> Value {
        let documented = &self.document["paths"][path]["get"]["responses"][response.status().as_str()];
        assert!(documented.is_object(), "{} is not documented for {path}", response.status());
        let (parts, body) = response.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let content_type = parts.headers["content-type"].to_str().unwrap();
        self.check(&documented["content"][content_type]["schema"], &body);
        let names = |headers: Vec<String>| headers.into_iter().collect::<BTreeSet<_>>();
        let sent =
            parts.headers.keys().filter(|name| !["content-type", "content-length"].contains(&name.as_str()));
        let promised = documented["headers"].as_object().unwrap().keys().map(|name| name.to_lowercase());
        assert_eq!(names(sent.map(ToString::to_string).collect()), names(promised.collect()));
        body
    }
}

async fn get(router: &axum::Router, uri: &str, users: &[&str]) -> Response<Body> {
    let request = users.iter().fold(Request::get(uri), |request, user| request.header("X-User-ID", *user));
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn real_answers_are_as_documented() {
    let manager = TaskManager::builder().max_run_time(std::time::Duration::from_secs(60)).build();
    let router = BackgroundTasks::new(manager.clone()).router();
    let checker = Checker { document: document_value() };
    let alice = Scope::user("alice");
    let meta = |name: &str| TaskMeta::new("alice", name).with_session("s").with_call_id("call_1");

    let mut tasks: BTreeMap<&str, TaskId> = BTreeMap::new();
    tasks.insert("completed", manager.spawn(meta("completed"), async {}).unwrap().id);
    tasks.insert(
        "failed",
        manager.spawn(meta("failed"), async { Outcome::failed("é".repeat(600)) }).unwrap().id,
    );
    let panics = async {
        if true {
            panic!("boom")
        }
    };
    tasks.insert("panicked", manager.spawn(TaskMeta::new("alice", "panicked"), panics).unwrap().id);
    tasks.insert("timed out", manager.spawn(meta("timed out"), std::future::pending::<()>()).unwrap().id);
    tasks.insert("cancelled", manager.spawn(meta("cancelled"), std::future::pending::<()>()).unwrap().id);
    manager.stop(&alice, tasks["cancelled"]).await.unwrap();
    for id in tasks.values() {
        manager.wait(&alice, *id).await.unwrap().unwrap();
    }
    tasks.insert("running", manager.spawn(meta("running"), std::future::pending::<()>()).unwrap().id);

    let expected = BTreeMap::from([
        ("completed", ("completed", json!(null))),
        ("failed", ("failed", json!("error"))),
        ("panicked", ("failed", json!("panic"))),
        ("timed out", ("failed", json!("timed_out"))),
        ("cancelled", ("cancelled", json!(null))),
        ("running", ("running", json!(null))),
    ]);
    for (name, id) in &tasks {
        let response = get(&router, &format!("/background-tasks/{id}"), &["alice"]).await;
        assert_eq!(response.status(), 200);
        let body = checker.check_response("/background-tasks/{task_id}", response).await;
        assert_eq!(
            (&body["status"], &body["failure_reason"]),
            (&json!(expected[name].0), &expected[name].1),
            "{name}"
        );
        assert_eq!(body["completed_at"].is_null(), *name == "running");
    }

    let list = get(&router, "/background-tasks", &["alice"]).await;
    let body = checker.check_response("/background-tasks", list).await;
    assert_eq!(body["total"], 6);
    for (status, uri, users) in [
        (400, "/background-tasks?session_id=a&session_id=b", &["alice"] as &[_]),
        (400, "/background-tasks", &["alice", "bob"]),
        (401, "/background-tasks", &[]),
    ] {
        let response = get(&router, uri, users).await;
        assert_eq!(response.status(), status);
        assert_eq!(checker.check_response("/background-tasks", response).await["status"], status);
    }
    for (status, uri, users) in [
        (400, "/background-tasks/%ff", &["alice"] as &[_]),
        (401, "/background-tasks/a", &[]),
        (404, "/background-tasks/a", &["alice"]),
    ] {
        let response = get(&router, uri, users).await;
        assert_eq!(response.status(), status);
        assert_eq!(checker.check_response("/background-tasks/{task_id}", response).await["status"], status);
    }

    // These are no answers of a documented operation, but problems all the same.
    let schema = json!({"$ref": "#/components/schemas/ProblemDetails"});
    let post = Request::post("/background-tasks").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(post).await.unwrap();
    assert_eq!(response.status(), 405);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    checker.check(&schema, &serde_json::from_slice(&body).unwrap());
    let response = ProblemDetails::unavailable("x").with_instance("/a?b").into_response();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    checker.check(&schema, &serde_json::from_slice(&body).unwrap());
}

#[test]
fn examples_are_as_documented() {
    let checker = Checker { document: document_value() };
    for (path, operation) in operations(&checker.document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            for content in response["content"].as_object().unwrap().values() {
                checker.check(&content["schema"], &content["example"]);
                if status != "200" {
                    assert_eq!(content["example"]["status"], status.parse::<i32>().unwrap(), "{path}");
                }
            }
        }
    }
    for schema in checker.document["components"]["schemas"].as_object().unwrap().values() {
        for property in
            schema["properties"].as_object().into_iter().flat_map(|properties| properties.values())
        {
            for example in property["examples"].as_array().into_iter().flatten() {
                checker.check(property, example);
            }
        }
    }
}
