//! What an agent finds in its inbox when a tool has ended: AgentScope's `HintBlock`.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::{ContentBlock, DataSource, ToolResponse, python, url};
use crate::bus::python::to_json;
use crate::manager::Ended;
use crate::task::{FailureReason, TaskRecord, TaskStatus};

const END: &str = "</system-notification>";

/// What there is to say about the end of a task.
struct News {
    /// Completes "Tool ... running in background ...".
    what: &'static str,
    /// What the content is.
    label: &'static str,
    content: Vec<ContentBlock>,
    /// Whether it is worth mentioning that there is no content.
    mention_nothing: bool,
}

/// The JSON text of the hint; `None` if there is nothing to tell.
///
/// The record has the last word about what happened: a task that was cancelled is never announced as completed,
/// whatever its future has returned.
pub(super) fn hint<E: fmt::Display>(
    task: &TaskRecord,
    ended: Ended<Result<ToolResponse, E>>,
) -> Result<Option<String>, serde_json::Error> {
    let Some(News { what, label, content, mention_nothing }) = news(task, ended) else { return Ok(None) };
    let meta = &task.meta;
    let call_id = meta.call_id();
    let ids = match call_id {
        Some(call_id) => format!("id={call_id}, task_id={}", task.id),
        None => format!("task_id={}", task.id),
    };
    let tool =
        format!("<system-notification>Tool '{}' running in background ({ids}) {what}", meta.tool_name());
    let now = python::local_now();
    let body = if content.is_empty() {
        let nothing = if mention_nothing { " with no output" } else { "" };
        Body::Text(format!("{tool}{nothing}.{END}"))
    } else {
        let content = framed(&format!("{tool}.\n\n{label}:\n\n"), content);
        Body::Blocks(content.into_iter().map(|block| Block::new(block, &now)).collect())
    };
    let source = to_json(&Source {
        label: "tool_output",
        sublabel: format!("{} · {}", meta.tool_name(), call_id.unwrap_or_default()),
    })?;
    let id = task.id.as_uuid().simple().to_string();
    let hint = Hint { r#type: "hint", hint: body, id, source, created_at: &now, finished_at: &now };
    to_json(&hint).map(Some)
}

fn news<E: fmt::Display>(task: &TaskRecord, ended: Ended<Result<ToolResponse, E>>) -> Option<News> {
    let mut news = News { what: "", label: "Error", content: Vec::new(), mention_nothing: false };
    match (task.status, task.failure_reason) {
        // Nothing has ended.
        (TaskStatus::Running, _) => return None,
        // Whoever has stopped it knows.
        (TaskStatus::Cancelled, reason) if reason != Some(FailureReason::Shutdown) => return None,
        (TaskStatus::Cancelled, _) => {
            news.what = "was stopped because the process shut down";
            return Some(news);
        }
        (TaskStatus::Completed, _) => {
            (news.what, news.label, news.mention_nothing) = ("has completed", "Result", true);
            news.content = output(ended);
        }
        (TaskStatus::Failed, Some(FailureReason::Panic)) => news.what = "has failed: it panicked",
        (TaskStatus::Failed, Some(FailureReason::TimedOut)) => {
            news.what = "has failed: it was stopped at the run-time limit";
        }
        (TaskStatus::Failed, Some(FailureReason::WorkerLost)) => {
            news.what = "has failed: the process that ran it is gone";
        }
        (TaskStatus::Failed, _) => {
            (news.what, news.mention_nothing) = ("has failed", true);
            news.content = output(ended);
            // Blank text says less than the record does.
            if news.content.iter().all(|block| block.as_text() == Some("")) {
                news.content.clear();
            }
        }
    }
    if news.content.is_empty()
        && let Some(error) = task.error_summary.as_deref().filter(|error| !error.is_empty())
    {
        news.content.push(error.into());
    }
    Some(news)
}

/// What the tool has to say, in whichever way it said it.
fn output<E: fmt::Display>(ended: Ended<Result<ToolResponse, E>>) -> Vec<ContentBlock> {
    match ended.returned() {
        Some(Ok(response)) => response.content.into_iter().map(readable).collect(),
        Some(Err(error)) => {
            let text = error.to_string();
            if text.is_empty() { Vec::new() } else { vec![text.into()] }
        }
        None => Vec::new(),
    }
}

/// An entry that AgentScope refuses costs all that it has read with it, so a doubtful URL is told as text.
fn readable(block: ContentBlock) -> ContentBlock {
    match block {
        ContentBlock::Data { source: DataSource::Url { url, .. }, .. } if !url::is_certainly_valid(&url) => {
            url.into()
        }
        block => block,
    }
}

/// Puts `start` before and [`END`] after the content, within a block of text if there is one at that end.
fn framed(start: &str, mut content: Vec<ContentBlock>) -> Vec<ContentBlock> {
    match content.first_mut() {
        Some(ContentBlock::Text { text }) => text.insert_str(0, start),
        _ => content.insert(0, start.into()),
    }
    match content.last_mut() {
        Some(ContentBlock::Text { text }) => text.push_str(END),
        _ => content.push(END.into()),
    }
    content
}

// The order of the fields is that of AgentScope.

#[derive(Serialize)]
struct Hint<'a> {
    r#type: &'static str,
    hint: Body<'a>,
    id: String,
    source: String,
    created_at: &'a str,
    finished_at: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Text(String),
    Blocks(Vec<Block<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: String,
        id: String,
        created_at: &'a str,
        finished_at: Option<&'a str>,
    },
    Data {
        id: String,
        source: DataSource,
        name: Option<String>,
        created_at: &'a str,
        finished_at: Option<&'a str>,
    },
}

impl<'a> Block<'a> {
    fn new(block: ContentBlock, created_at: &'a str) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        match block {
            ContentBlock::Text { text } => Self::Text { text, id, created_at, finished_at: None },
            ContentBlock::Data { source, name } => {
                Self::Data { id, source, name, created_at, finished_at: None }
            }
        }
    }
}

#[derive(Serialize)]
struct Source {
    label: &'static str,
    sublabel: String,
}
