//! What our tool module says, as AgentScope reads it.

use std::time::Duration;

use serde_json::{Value, json};
use tower::BoxError;
use tower_offload::ToolResponse;
use tower_offload::tool::{ContentBlock, ToolState};

use crate::both::Both;
use crate::ours::{all_delivered, call, offload, task_id};
use crate::peer::array;

pub(crate) async fn answer(content: Vec<ContentBlock>) -> Result<ToolResponse, BoxError> {
    Ok(ToolResponse::new("call_1", ToolState::Success, content))
}

/// All that can be read in a hint.
fn text(hint: &Value) -> String {
    let Some(blocks) = hint["hint"].as_array() else { return hint["hint"].as_str().unwrap().to_owned() };
    blocks.iter().map(|block| block["text"].as_str().unwrap_or("[data]")).collect::<Vec<_>>().join("|")
}

fn awkward_texts() -> Vec<String> {
    let control: String = (1..0x20_u8).map(char::from).collect();
    vec![
        String::new(),
        "  \n".into(),
        "ünïcode — ✓ 🦀 e\u{301} \u{202e}rtl\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}\u{10ffff}".into(),
        control + "\u{7f}\u{80}\u{9f}",
        r#"{"json": "\\ \" \/ \u0041"} \ "quoted" </system> NaN"#.into(),
        "long ".repeat(1_000_000),
    ]
}

#[tokio::test]
async fn every_output_arrives_as_it_is() {
    let both = Both::start().await;
    for output in awkward_texts() {
        let task = both.offload(call("S", "slow"), answer(vec![output.as_str().into()])).await;
        let (raw, hint) = both.hint("S").await;
        assert!(hint == serde_json::from_str::<Value>(&raw).unwrap(), "nothing was filled in, or left out");
        let expected = format!(
            "<system-notification>Tool 'slow' running in background (id=call_1, task_id={task}) has completed.\n\n\
             Result:\n\n{output}</system-notification>"
        );
        assert!(text(&hint) == expected, "{:.300}", text(&hint));
    }
    both.peer.is_unharmed().await;
}

#[tokio::test]
async fn so_does_whatever_names_there_are() {
    let both = Both::start().await;
    for (n, name) in awkward_texts().into_iter().enumerate() {
        // More than that is not admitted.
        let name: String = name.chars().take(1000).collect();
        let session = format!("S{n}:{name}");
        let shown: String = name
            .chars()
            .filter(|c| *c != '\u{202e}')
            .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
            .collect();
        let task = both.offload(call(&session, &name).with_id(&*name), answer(vec![])).await;
        let (raw, hint) = both.hint(&session).await;
        assert_eq!(hint, serde_json::from_str::<Value>(&raw).unwrap());
        let ids =
            if name.is_empty() { format!("task_id={task}") } else { format!("id={shown}, task_id={task}") };
        let expected = format!(
            "<system-notification>Tool '{shown}' running in background ({ids}) has completed with no output.\
             </system-notification>"
        );
        assert_eq!(text(&hint), expected);
        let source: Value = serde_json::from_str(hint["source"].as_str().unwrap()).unwrap();
        assert_eq!(source, json!({"label": "tool_output", "sublabel": format!("{shown} · {shown}")}));
    }
    both.peer.is_unharmed().await;
}

#[tokio::test]
async fn failures_are_hints_too() {
    let both = Both::start().await;
    let failed = async || {
        let (_, hint) = both.hint("S").await;
        text(&hint)
    };
    both.offload(call("S", "t"), async { Err("disk \u{1} full") }).await;
    assert!(failed().await.contains("has failed.\n\nError:\n\ndisk \u{1} full</system-notification>"));
    both.offload(call("S", "t"), async { Err("") }).await;
    assert!(failed().await.contains("has failed with no output.</system-notification>"));
    let image = ContentBlock::base64("image/png", "AAAA");
    let response = ToolResponse::new("call_1", ToolState::Error, vec![image]);
    both.offload(call("S", "t"), async { Ok::<_, BoxError>(response) }).await;
    assert!(failed().await.contains("has failed.\n\nError:\n\n|[data]|</system-notification>"));
    let panics = async {
        std::panic::resume_unwind(Box::new("as asked"));
        #[allow(unreachable_code, reason = "it says what the type is")]
        Err::<ToolResponse, BoxError>("".into())
    };
    both.offload(call("S", "t"), panics).await;
    assert!(failed().await.contains("has failed: it panicked.\n\nError:\n\nas asked</system-notification>"));

    both.offload(call("S", "t"), std::future::pending::<Result<ToolResponse, BoxError>>()).await;
    both.manager.shutdown(Duration::ZERO).await;
    assert!(failed().await.contains("was stopped because the process shut down.</system-notification>"));
    both.peer.is_unharmed().await;
}

#[tokio::test]
async fn data_arrives_in_its_place() {
    let both = Both::start().await;
    let content = vec![
        ContentBlock::base64("image/png", "AAAA"),
        ContentBlock::text("and"),
        ContentBlock::url("audio/ogg", "https://example.com/a b.ogg?ü#1"),
        ContentBlock::base64("", "no base64 at all \u{1}"),
        ContentBlock::Data {
            source: tower_offload::tool::DataSource::Base64 { data: "BBBB".into(), media_type: "x/y".into() },
            name: Some("ein \"Bild\".png".into()),
        },
    ];
    both.offload(call("S", "t"), answer(content)).await;
    let (_, hint) = both.hint("S").await;
    assert!(text(&hint).ends_with("Result:\n\n|[data]|and|[data]|[data]|[data]|</system-notification>"));
    let sources: Vec<_> =
        array(hint["hint"].clone()).into_iter().filter_map(|block| block.get("source").cloned()).collect();
    let url = "https://example.com/a%20b.ogg?%C3%BC#1";
    assert_eq!(sources[0], json!({"type": "base64", "data": "AAAA", "media_type": "image/png"}));
    assert_eq!(sources[1], json!({"type": "url", "url": url, "media_type": "audio/ogg"}));
    assert_eq!(sources[2]["data"], "no base64 at all \u{1}");
    assert_eq!(hint["hint"][5]["name"], "ein \"Bild\".png");
}

/// The same tools on both sides; what they say is the same text to the byte, but for ids and times, and for the one
/// thing that we add.
#[tokio::test]
async fn the_bytes_are_those_of_agentscope() {
    let both = Both::start().await;
    let mut contents: Vec<Vec<ContentBlock>> =
        awkward_texts().into_iter().map(|text| vec![text.into()]).collect();
    contents.push(vec![]);
    contents.push(vec![ContentBlock::base64("image/png", "AAAA")]);
    contents.push(vec![ContentBlock::url("image/png", "https://example.com/a.png"), "after".into()]);
    contents.push(vec!["before".into(), ContentBlock::base64("image/png", "AAAA")]);
    for (n, content) in contents.into_iter().enumerate() {
        let gate = format!("gate {n}");
        let there = json!({
            "session": "there", "tool": "a \"t\\öl\"", "call_id": "call_1", "timeout_secs": 0.001,
            "content": content, "gate": gate,
        });
        let told_there = both.peer.call("call_tool", there).await;
        both.peer.open(&gate).await;
        let told_here = offload(&both.manager, call("here", "a \"t\\öl\""), answer(content)).await;
        let id = task_id(&told_here).to_string();
        let text = |told: &Value| told["content"][0]["text"].as_str().unwrap().to_owned();
        let (told_here, told_there) = (text(&json!(told_here)), text(&told_there[1]));
        let (start, end) = told_there.split_once("(id=").unwrap();
        let expected = format!("{start}(id={id}, call_id=call_1{}", &end[22..]);
        assert_eq!(told_here, expected);

        all_delivered(&both.manager).await;
        crate::until(async || {
            let length = both.peer.redis(&["XLEN", "agentscope:inbox:there"]).await;
            (length == 1).then_some(())
        })
        .await;
        let here = normalised(&both.raw("here").await).replace(&format!(", task_id={id}"), "");
        let there = normalised(&both.raw("there").await);
        assert!(here == there, "{here:.2000}\n{there:.2000}");
        for session in ["here", "there"] {
            assert_eq!(both.peer.drain(session).await.len(), 1);
        }
    }
}

/// Without ids and times.
fn normalised(hint: &str) -> String {
    let parsed: Value = serde_json::from_str(hint).unwrap();
    let mut text = hint.to_owned();
    let blocks = parsed["hint"].as_array().into_iter().flatten();
    for block in blocks.chain([&parsed]) {
        for (name, length) in [("id", 32), ("created_at", 26), ("finished_at", 26)] {
            let Some(value) = block[name].as_str() else { continue };
            assert!(value.len() == length || (length == 26 && value.len() == 19), "{name}: {value}");
            text = text.replace(&format!("\"{value}\""), if length == 32 { "ID" } else { "TIME" });
        }
    }
    text
}
