//! The types of a tool service, and their JSON.

use std::fmt::Debug;

use serde_json::json;
use tower_offload::offload::{DescribeCall, OffloadCall};
use tower_offload::tool::{
    ClassifyToolState, ContentBlock, DataSource, DeliverHint, RespondPlaceholder, ToolHooks, ToolPolicy,
    ToolState, ToolStopFuture,
};
use tower_offload::{OffloadLayer, ToolCall, ToolResponse, ToolStop};

#[test]
fn the_json_of_a_response_is_agentscopes() {
    let response = ToolResponse::new(
        "call_1",
        ToolState::Error,
        vec![
            "a".into(),
            ContentBlock::base64("image/png", "AAAA"),
            ContentBlock::url("image/png", "https://e.org"),
        ],
    )
    .with_metadata("n", 1);
    let text = serde_json::to_string(&response).unwrap();
    assert_eq!(
        text,
        r#"{"id":"call_1","content":[{"type":"text","text":"a"},{"type":"data","source":{"type":"base64","data":"AAAA","media_type":"image/png"},"name":null},{"type":"data","source":{"type":"url","url":"https://e.org","media_type":"image/png"},"name":null}],"state":"error","metadata":{"n":1}}"#
    );
    assert_eq!(serde_json::from_str::<ToolResponse>(&text).unwrap(), response);
}

#[test]
fn what_agentscope_writes_is_read() {
    let response: ToolResponse = serde_json::from_value(json!({
        "content": [
            {"type": "text", "text": "a", "id": "0123", "created_at": "2026-11-22T13:31:32", "finished_at": null},
            {"type": "data", "id": "4567", "source": {"type": "url", "url": "https://e.org/", "media_type": "image/png"}},
        ],
        "state": "interrupted",
        "metadata": {"k": null},
        "is_interrupted": false,
        "id": "89ab",
    }))
    .unwrap();
    assert_eq!((response.id.as_str(), response.state), ("89ab", ToolState::Interrupted));
    assert_eq!(response.content[0], ContentBlock::text("a"));
    let ContentBlock::Data { source: DataSource::Url { url, .. }, name: None } = &response.content[1] else {
        panic!("{response:?}");
    };
    assert_eq!(url, "https://e.org/");
    assert_eq!(serde_json::from_str::<ToolResponse>("{}").unwrap(), ToolResponse::default());
    for bad in [r#"{"state":"running"}"#, r#"{"content":[{"type":"hint"}]}"#, r#"{"content":"a"}"#] {
        assert!(serde_json::from_str::<ToolResponse>(bad).is_err(), "{bad}");
    }
}

#[test]
fn states_have_the_names_of_their_json() {
    for (state, name) in [
        (ToolState::Success, "success"),
        (ToolState::Error, "error"),
        (ToolState::Interrupted, "interrupted"),
        (ToolState::Denied, "denied"),
    ] {
        assert_eq!(state.as_str(), name);
        assert_eq!(format!("{state:>12}"), format!("{name:>12}"));
        assert_eq!(serde_json::to_value(state).unwrap(), name);
    }
}

#[test]
fn the_texts_of_a_response_are_read_together() {
    let mut response = ToolResponse::text("1", "a");
    assert_eq!(response.display_text().to_string(), "a");
    response.content.push(ContentBlock::base64("image/png", "AAAA"));
    response.content.push("b".into());
    assert_eq!(response.display_text().to_string(), "a\nb");
    response.content.clear();
    assert_eq!(response.display_text().to_string(), "");
}

#[test]
fn a_call_describes_itself() {
    let call = ToolCall::new("Bash", r#"{"command": "make"}"#)
        .with_id("call_1")
        .with_user("alice")
        .with_session("s1")
        .with_agent("agent");
    assert_eq!([call.id(), call.name(), call.input()], ["call_1", "Bash", r#"{"command": "make"}"#]);
    assert_eq!([call.user_id(), call.session_id(), call.agent_id()], ["alice", "s1", "agent"]);
    let plan = ToolPolicy::new().describe_call(&call);
    assert_eq!(plan.call(), Some(&call));
    let meta = call.meta();
    assert_eq!(meta.summary(), tower_offload::summarize(call.name(), Some(call.input())));
}

#[test]
fn everything_can_go_anywhere() {
    fn check<T: Clone + Debug + Send + Sync + Unpin + 'static>() {}
    check::<ToolCall>();
    check::<ToolResponse>();
    check::<ToolStop>();
    check::<(ToolPolicy, RespondPlaceholder, ClassifyToolState, DeliverHint)>();
    check::<OffloadLayer<ToolHooks>>();
    fn check_future<T: Debug + Send + Unpin + 'static>() {}
    check_future::<ToolStopFuture>();
}
