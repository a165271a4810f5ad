//! The OpenAPI document of the whole service, and what Swagger UI makes of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Request;
use crate::program::{Program, until};

async fn document(service: &Program) -> Value {
    service.send(Request::new("GET", "/api-docs/openapi.json")).await.json()
}

#[tokio::test]
async fn all_routes_are_in_the_document() {
    let service = Program::start(&[]).await;
    let document = document(&service).await;
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operations.insert((method.as_str(), path.as_str(), id)));
            for text in ["summary", "description"] {
                assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{id}: {text}");
            }
            let identified = json!([{"userId": []}]);
            assert_eq!(operation["security"], if id == "health" { Value::Null } else { identified }, "{id}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{id}: {parameter}");
                // Swagger UI fills it in.
                assert_eq!(
                    parameter["example"].is_string(),
                    parameter["required"] == true,
                    "{id}: {parameter}"
                );
            }
        }
    }
    let expected = [
        ("delete", "/sessions/{session_id}", "cancelSession"),
        ("get", "/background-tasks", "listBackgroundTasks"),
        ("get", "/background-tasks/{task_id}", "getBackgroundTask"),
        ("get", "/health", "health"),
        ("post", "/sessions/{session_id}/inbox/drain", "drainInbox"),
        ("post", "/sessions/{session_id}/tools/{tool_name}", "callTool"),
    ];
    assert_eq!(operations, BTreeSet::from(expected));

    // The routes of the crate are as its own document has them.
    let committed: Value = serde_json::from_str(include_str!("../../openapi/background-tasks.json")).unwrap();
    for (path, item) in committed["paths"].as_object().unwrap() {
        assert_eq!(document["paths"][path], *item, "{path}");
    }
    for (kind, components) in committed["components"].as_object().unwrap() {
        for (name, component) in components.as_object().unwrap() {
            assert_eq!(document["components"][kind][name], *component, "{name}");
        }
    }
}

/// What *Execute* sends when nothing is changed but the user.
fn as_filled_in(document: &Value, method: &str, path: &str) -> Request {
    let operation = &document["paths"][path][method];
    let mut target = path.to_owned();
    for parameter in operation["parameters"].as_array().unwrap() {
        if parameter["in"] == "path" {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            target = target.replace(&name, parameter["example"].as_str().unwrap());
        }
    }
    let request = Request::new(&method.to_uppercase(), &target).header("X-User-ID", "alice");
    match &operation["requestBody"]["content"]["application/json"]["example"] {
        Value::Null => request,
        body => request.body(body.to_string()),
    }
}

#[tokio::test]
async fn a_newcomer_makes_a_task_from_the_document_alone() {
    let service = Program::start(&[]).await;
    let document = document(&service).await;
    let execute = async |method: &str, path: &str| {
        let answer = service.send(as_filled_in(&document, method, path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    let answer = execute("post", "/sessions/{session_id}/tools/{tool_name}").await;
    let id = answer["metadata"]["task_id"].as_str().expect("a task id").to_owned();
    let list = execute("get", "/background-tasks").await;
    assert_eq!((&list["tasks"][0]["task_id"], &list["tasks"][0]["status"]), (&json!(id), &json!("running")));
    assert_eq!(execute("delete", "/sessions/{session_id}").await, json!({"cancelled": 1}));
    assert_eq!(service.ended("alice", &id).await["status"], "cancelled");

    let quick = service.offload("alice", "Sleep", json!({"seconds": 0.5})).await;
    service.ended("alice", &quick).await;
    let hints = until(async || {
        let hints = execute("post", "/sessions/{session_id}/inbox/drain").await;
        (hints != json!([])).then_some(hints)
    })
    .await;
    assert!(hints[0]["id"].is_string() && hints[0]["hint"]["type"] == "hint", "{hints}");
}
