//! Whatever a model writes as the input of `ToolStop` has an answer.

use tower_offload::tool::ToolState;
use tower_offload::{TaskManager, ToolResponse, ToolStop};

use crate::common::{call, text};

async fn stop_with(input: &str) -> ToolResponse {
    ToolStop::new(TaskManager::new()).run(&call(ToolStop::NAME, input)).await
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let not_json = "The input is not JSON: ";
    for (input, problem) in [
        ("", "The task_id is missing"),
        ("  ", "The task_id is missing"),
        ("{}", "The task_id is missing"),
        (r#"{"id": "x"}"#, "The task_id is missing"),
        (r#"{"task_id": ""}"#, "The task_id is empty"),
        (r#"{"task_id": null}"#, "The task_id is not a string"),
        (r#"{"task_id": 7}"#, "The task_id is not a string"),
        (r#"{"task_id": ["x"]}"#, "The task_id is not a string"),
        (r#"{"task_id": {"task_id": "x"}}"#, "The task_id is not a string"),
        ("null", "The input is not a JSON object"),
        ("7", "The input is not a JSON object"),
        (r#""x""#, "The input is not a JSON object"),
        (r#"["task_id"]"#, "The input is not a JSON object"),
        ("{", not_json),
        ("x", not_json),
        (r#"{"task_id": "x"} y"#, not_json),
        (r#"{"task_id": "\ud800"}"#, not_json),
        ("{\"task_id\": \"\0\"}", not_json),
        (&"[".repeat(100_000), not_json),
    ] {
        let response = stop_with(input).await;
        assert_eq!(response.state, ToolState::Error, "{input:?}");
        assert_eq!(response.id, "call_1");
        let text = text(&response);
        assert!(text.starts_with(&format!("InvalidInputError: {problem}")), "{input:?}: {text}");
        assert!(text.ends_with(r#" ToolStop needs a JSON object with the string "task_id"."#), "{text}");
    }
}

#[tokio::test]
async fn odd_ids_are_ids_of_nothing() {
    for id in ["x", " ", "../..", "*", "é", "00000000-0000-0000-0000-000000000000"] {
        let response = stop_with(&serde_json::json!({"task_id": id, "more": [1]}).to_string()).await;
        assert_eq!(response.state, ToolState::Error);
        assert_eq!(text(&response), format!("TaskNotFoundError: The task {id} does not exist."));
    }
}
