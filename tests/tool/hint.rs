//! The JSON of the hint: its shapes, and its bytes.

use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::tool::{ContentBlock, ToolState};
use tower_offload::{OffloadLayer, TaskId, TaskManager, ToolCall, ToolResponse};

use crate::common::*;

/// Offloads `call`, answers it with `content`, and returns the hint.
async fn hint_of(call: ToolCall, content: Vec<ContentBlock>) -> (TaskId, String) {
    let manager = TaskManager::new();
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
    let tool = service_fn(|_: ToolCall| late(ToolResponse::new("r", ToolState::Success, content.clone())));
    let service = ServiceBuilder::new().layer(layer).service(tool);
    let task = task_id(&service.oneshot(call).await.unwrap());
    ended(&manager, task).await;
    (task, only_hint(&manager).await)
}

/// Replaces what differs from run to run: the ids of blocks, and the time. What they look like is checked here.
fn normalised(task: TaskId, payload: &str) -> String {
    let hint: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(hint["id"], task.as_uuid().simple().to_string());
    assert_eq!(hint["created_at"], hint["finished_at"]);
    let now = hint["created_at"].as_str().unwrap();
    let (seconds, micros) = now.split_once('.').unwrap_or((now, "000000"));
    assert!(seconds.len() == 19 && seconds.as_bytes()[10] == b'T', "{now}");
    assert!(micros.len() == 6 && micros.bytes().all(|b| b.is_ascii_digit()), "{now}");
    let mut text = payload.replace(&task.as_uuid().simple().to_string(), "HINT");
    text = text.replace(&task.to_string(), "TASK").replace(&format!("\"{now}\""), "NOW");
    for block in hint["hint"].as_array().into_iter().flatten() {
        let id = block["id"].as_str().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        assert_eq!(text.matches(id).count(), 1, "ids are unique");
        text = text.replace(id, "ID");
    }
    text
}

const TAIL: &str = r#""id": "HINT", "source": "{\"label\": \"tool_output\", \"sublabel\": \"slow_tool · call_1\"}", "created_at": NOW, "finished_at": NOW}"#;
const START: &str = r"<system-notification>Tool 'slow_tool' running in background (id=call_1, task_id=TASK) has completed.\n\nResult:\n\n";

async fn assert_hint(content: Vec<ContentBlock>, expected_hint: &str) {
    let (task, payload) = hint_of(call("slow_tool", "{}"), content).await;
    let expected = expected_hint.replace("START", START);
    let expected = format!(r#"{{"type": "hint", "hint": {expected}, {TAIL}"#);
    assert_eq!(normalised(task, &payload), expected);
}

#[tokio::test(start_paused = true)]
async fn one_text() {
    assert_hint(
        vec!["finished after 0.3s — ünïcode ✓".into()],
        r#"[{"type": "text", "text": "STARTfinished after 0.3s — ünïcode ✓</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing() {
    assert_hint(
        vec![],
        r#""<system-notification>Tool 'slow_tool' running in background (id=call_1, task_id=TASK) has completed with no output.</system-notification>""#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_text_is_an_output() {
    assert_hint(
        vec!["".into()],
        r#"[{"type": "text", "text": "START</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn texts_at_both_ends() {
    assert_hint(
        vec!["a".into(), ContentBlock::base64("image/png", "AAAA"), "b".into()],
        r#"[{"type": "text", "text": "STARTa", "id": "ID", "created_at": NOW, "finished_at": null}, {"type": "data", "id": "ID", "source": {"type": "base64", "data": "AAAA", "media_type": "image/png"}, "name": null, "created_at": NOW, "finished_at": null}, {"type": "text", "text": "b</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn data_alone() {
    assert_hint(
        vec![ContentBlock::url("image/png", "https://example.com/a.png")],
        r#"[{"type": "text", "text": "START", "id": "ID", "created_at": NOW, "finished_at": null}, {"type": "data", "id": "ID", "source": {"type": "url", "url": "https://example.com/a.png", "media_type": "image/png"}, "name": null, "created_at": NOW, "finished_at": null}, {"type": "text", "text": "</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn data_first() {
    let mut image = ContentBlock::base64("image/png", "AAAA");
    if let ContentBlock::Data { name, .. } = &mut image {
        *name = Some("a \"plot\"".to_owned());
    }
    assert_hint(
        vec![image, "b".into()],
        r#"[{"type": "text", "text": "START", "id": "ID", "created_at": NOW, "finished_at": null}, {"type": "data", "id": "ID", "source": {"type": "base64", "data": "AAAA", "media_type": "image/png"}, "name": "a \"plot\"", "created_at": NOW, "finished_at": null}, {"type": "text", "text": "b</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn data_last() {
    assert_hint(
        vec!["a".into(), ContentBlock::base64("image/png", "AAAA")],
        r#"[{"type": "text", "text": "STARTa", "id": "ID", "created_at": NOW, "finished_at": null}, {"type": "data", "id": "ID", "source": {"type": "base64", "data": "AAAA", "media_type": "image/png"}, "name": null, "created_at": NOW, "finished_at": null}, {"type": "text", "text": "</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

/// One entry that does not validate costs AgentScope all that it drained with it.
#[tokio::test(start_paused = true)]
async fn a_url_that_a_reader_may_refuse_becomes_text() {
    assert_hint(
        vec!["a".into(), ContentBlock::url("image/png", "plots/1.png")],
        r#"[{"type": "text", "text": "STARTa", "id": "ID", "created_at": NOW, "finished_at": null}, {"type": "text", "text": "plots/1.png</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}]"#,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn escapes_are_pythons() {
    assert_hint(
        vec!["\"\\/\n\r\t\u{8}\u{c}\u{1f}\u{7f}\u{2028}😀".into()],
        &format!(
            r#"[{{"type": "text", "text": "START\"\\/\n\r\t\b\f\u001f{}{}😀</system-notification>", "id": "ID", "created_at": NOW, "finished_at": null}}]"#,
            '\u{7f}', '\u{2028}'
        ),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_name_or_id_breaks_the_json() {
    let (name, id) = ("a\"b\\c'\u{2003}{}", "\"}, é · {");
    let (task, payload) = hint_of(call(name, "{}").with_id(id), vec!["x".into()]).await;
    let hint: Value = serde_json::from_str(&payload).unwrap();
    let source: Value = serde_json::from_str(hint["source"].as_str().unwrap()).unwrap();
    assert_eq!(source, json!({"label": "tool_output", "sublabel": format!("{name} · {id}")}));
    let text = hint["hint"][0]["text"].as_str().unwrap();
    assert!(text.contains(&format!("Tool '{name}' running in background (id={id}, task_id={task}) has")));
}

#[tokio::test(start_paused = true)]
async fn no_text_of_an_error_breaks_the_json() {
    let manager = TaskManager::new();
    let task = offload(&manager, async {
        tokio::time::sleep(secs(20)).await;
        Err(BoxError::from("\"}\u{1}\n"))
    })
    .await;
    ended(&manager, task).await;
    let hint: Value = serde_json::from_str(&only_hint(&manager).await).unwrap();
    assert!(hint["hint"][0]["text"].as_str().unwrap().ends_with("\"}\u{1}\n</system-notification>"));
}
