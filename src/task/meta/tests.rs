use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_summary_is_one_line_of_at_most_128_characters() {
    let meta = TaskMeta::new("u", "t").with_summary("a\nb\u{7f}c");
    assert_eq!(meta.summary(), "a b c");
    let meta = meta.with_summary("é".repeat(129));
    assert_eq!(meta.summary().chars().count(), 128);
    assert!(meta.summary().ends_with("é..."));
    assert_eq!(TaskMeta::new("u", "n".repeat(300)).summary().chars().count(), 128);
}

/// What the texts are, kept in the plainest way.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Model {
    user_id: String,
    session_id: String,
    agent_id: String,
    tool_name: String,
    summary: String,
    call_id: Option<String>,
}

impl Model {
    fn new(user_id: &str, tool_name: &str) -> Self {
        Self {
            user_id: user_id.to_owned(),
            session_id: String::new(),
            agent_id: String::new(),
            tool_name: tool_name.to_owned(),
            summary: one_line(tool_name, 128).into_owned(),
            call_id: None,
        }
    }

    fn of(meta: &TaskMeta) -> Self {
        Self {
            user_id: meta.user_id().to_owned(),
            session_id: meta.session_id().to_owned(),
            agent_id: meta.agent_id().to_owned(),
            tool_name: meta.tool_name().to_owned(),
            summary: meta.summary().to_owned(),
            call_id: meta.call_id().map(str::to_owned),
        }
    }

    fn text_bytes(&self) -> usize {
        let texts = [&self.user_id, &self.session_id, &self.agent_id, &self.tool_name, &self.summary];
        texts.into_iter().chain(&self.call_id).map(String::len).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Session(String),
    Agent(String),
    CallId(String),
    Summary(String),
    SummaryIsName,
    Clone,
    Fit,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-c]{1,4}", "[aé漢🦀\\n]{1,12}", "[é]{120,140}"]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => text().prop_map(Step::Session),
        3 => text().prop_map(Step::Agent),
        3 => text().prop_map(Step::CallId),
        3 => text().prop_map(Step::Summary),
        1 => Just(Step::SummaryIsName),
        1 => Just(Step::Clone),
        1 => Just(Step::Fit),
    ]
}

proptest! {
    #[test]
    fn any_order_of_steps_gives_what_was_set(
        user in text(),
        tool in text(),
        steps in proptest::collection::vec(step(), 0..12),
    ) {
        let mut meta = TaskMeta::new(&user, &tool);
        let mut model = Model::new(&user, &tool);
        let mut clones = Vec::new();
        prop_assert_eq!(Model::of(&meta), model.clone());
        for step in steps {
            match step {
                Step::Session(text) => {
                    meta = meta.with_session(&text);
                    model.session_id = text;
                }
                Step::Agent(text) => {
                    meta = meta.with_agent(&text);
                    model.agent_id = text;
                }
                Step::CallId(text) => {
                    meta = meta.with_call_id(&text);
                    model.call_id = Some(text);
                }
                Step::Summary(text) => {
                    meta = meta.with_summary(&text);
                    model.summary = one_line(&text, 128).into_owned();
                }
                Step::SummaryIsName => {
                    meta = meta.with_summary(&tool);
                    model.summary = one_line(&tool, 128).into_owned();
                }
                Step::Clone => clones.push((meta.clone(), model.clone())),
                Step::Fit => meta = meta.fit(),
            }
            prop_assert_eq!(Model::of(&meta), model.clone());
        }
        // What was cloned is as it was, and each is kept like one that was made at once.
        clones.push((meta, model));
        for (meta, model) in clones {
            prop_assert_eq!(Model::of(&meta), model.clone());
            prop_assert_eq!(meta.text_bytes(), model.text_bytes());
            prop_assert_eq!(&TaskMeta::from_parts(meta.parts()), &meta);
            let json = serde_json::to_string(&model).unwrap();
            prop_assert_eq!(&serde_json::to_string(&meta).unwrap(), &json);
            prop_assert_eq!(serde_json::from_str::<TaskMeta>(&json).unwrap(), meta);
        }
    }
}

#[test]
fn a_call_id_that_is_empty_is_not_none() {
    let meta = TaskMeta::new("u", "t");
    assert_eq!(meta.call_id(), None);
    assert_eq!(meta.clone().with_call_id("").call_id(), Some(""));
    assert_ne!(meta.clone().with_call_id(""), meta);
}

#[test]
fn it_is_read_as_it_is_written_and_nothing_is_clipped_then() {
    let long = "n\n".repeat(200);
    let json = json!({
        "user_id": "u", "session_id": "", "agent_id": "a", "tool_name": long, "summary": long, "call_id": null,
    });
    let meta: TaskMeta = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(meta.summary(), long);
    assert_eq!(serde_json::to_value(&meta).unwrap(), json);
    let text = r#"{"user_id":"u","session_id":"s","agent_id":"","tool_name":"t","summary":"x","new":1}"#;
    assert_eq!(serde_json::from_str::<TaskMeta>(text).unwrap().call_id(), None);
    let error = serde_json::from_str::<TaskMeta>("{}").unwrap_err().to_string();
    assert!(error.starts_with("missing field `user_id`"), "{error}");
    let error = serde_json::from_str::<TaskMeta>("1").unwrap_err().to_string();
    assert!(error.ends_with("expected struct TaskMeta at line 1 column 1"), "{error}");
}

#[test]
fn debug_shows_the_texts() {
    let meta = TaskMeta::new("u", "t").with_session("s\n").with_call_id("c");
    let text = r#"TaskMeta { user_id: "u", session_id: "s\n", agent_id: "", tool_name: "t", summary: "t", "#;
    assert_eq!(format!("{meta:?}"), format!("{text}call_id: Some(\"c\") }}"));
}

#[test]
fn it_is_one_handle() {
    assert_eq!(size_of::<TaskMeta>(), size_of::<usize>());
    let meta = TaskMeta::new("u", "t");
    assert!(Arc::ptr_eq(&meta.texts, &meta.clone().texts));
}

#[test]
fn what_nobody_else_has_is_built_and_fitted_in_place() {
    let meta = TaskMeta::new("u", "t");
    let at = Arc::as_ptr(&meta.texts);
    let meta = meta.with_session("s").with_agent("a").with_call_id("c").with_summary("x").fit();
    assert_eq!(Arc::as_ptr(&meta.texts), at);
    let clone = meta.clone().fit();
    assert_eq!(Arc::as_ptr(&clone.texts), at);
}

#[test]
fn the_limit_is_on_all_texts() {
    let meta = TaskMeta::new("u", "t");
    assert!(!meta.exceeds(3));
    assert!(meta.exceeds(2));
    assert!(meta.with_call_id("c").exceeds(3));
}
