//! The message that reports the end of a background tool to its agent: AgentScope's `HintBlock`.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::{ContentBlock, DataSource, ToolResponse, notice, python, url};
use crate::bus::python::to_json;
use crate::manager::{Ended, Redactor};
use crate::task::{FailureReason, TaskRecord, TaskStatus};

const END: &str = "</system-notification>";

/// The longest error text in a hint, in characters.
const MAX_ERROR_CHARS: usize = 8192;

/// The content of a hint.
struct News {
    /// Completes the sentence "Tool ... running in background ...".
    what: Cow<'static, str>,
    /// The heading of the content.
    label: &'static str,
    content: Vec<ContentBlock>,
    /// Whether the hint says that there is no content.
    mention_nothing: bool,
}

/// Makes the JSON text of the hint; `None` if there is nothing to deliver.
///
/// The hint follows the record and not the output of the future: it never says that a cancelled task has completed. Each
/// text from outside goes through [`notice`].
pub(super) fn hint<E: fmt::Display>(
    task: &TaskRecord,
    ended: Ended<Result<ToolResponse, E>>,
    redactor: &Redactor,
) -> Result<Option<String>, serde_json::Error> {
    let Some(News { what, label, mut content, mention_nothing }) = news(task, ended, redactor) else {
        return Ok(None);
    };
    notice::blocks(&mut content);
    let tool_name = notice::line(task.meta.tool_name());
    let call_id = task.meta.call_id().map(notice::line);
    let ids = match &call_id {
        Some(call_id) => format!("id={call_id}, task_id={}", task.id),
        None => format!("task_id={}", task.id),
    };
    let tool = format!("<system-notification>Tool '{tool_name}' running in background ({ids}) {what}");
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
        sublabel: format!("{tool_name} · {}", call_id.as_deref().unwrap_or_default()),
    })?;
    let id = task.id.as_uuid().simple().to_string();
    let hint = Hint { r#type: "hint", hint: body, id, source, created_at: &now, finished_at: &now };
    to_json(&hint).map(Some)
}

fn news<E: fmt::Display>(
    task: &TaskRecord,
    ended: Ended<Result<ToolResponse, E>>,
    redactor: &Redactor,
) -> Option<News> {
    let mut news = News { what: "".into(), label: "Error", content: Vec::new(), mention_nothing: false };
    match (task.status, task.failure_reason) {
        (TaskStatus::Running, _) => return None,
        // The caller that stopped the task has an answer already.
        (TaskStatus::Cancelled, reason) if reason != Some(FailureReason::Shutdown) => return None,
        (TaskStatus::Cancelled, _) => {
            news.what = "was stopped because the process shut down".into();
            return Some(news);
        }
        (TaskStatus::Completed, _) => {
            (news.what, news.label, news.mention_nothing) = ("has completed".into(), "Result", true);
            news.content = output(ended, redactor);
        }
        (TaskStatus::Failed, Some(FailureReason::Panic)) => news.what = "has failed: it panicked".into(),
        (TaskStatus::Failed, Some(FailureReason::TimedOut)) => {
            news.what = "has failed: it was stopped at the run-time limit".into();
        }
        (TaskStatus::Failed, Some(FailureReason::WorkerLost)) => {
            news.what = "has failed: the process that ran it is gone".into();
        }
        (TaskStatus::Failed, reason) => {
            news.what = match reason {
                Some(FailureReason::Other(other)) => format!("has failed ({})", other.as_str()).into(),
                _ => "has failed".into(),
            };
            news.mention_nothing = true;
            news.content = output(ended, redactor);
            // The error of the record says more than an empty text.
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

/// The output of the tool, as blocks.
fn output<E: fmt::Display>(ended: Ended<Result<ToolResponse, E>>, redactor: &Redactor) -> Vec<ContentBlock> {
    match ended.returned() {
        Some(Ok(response)) => response.content.into_iter().map(readable).collect(),
        Some(Err(error)) => {
            let (mut text, more) = redactor.text(error, MAX_ERROR_CHARS);
            if more {
                text.push_str("...");
            }
            if text.is_empty() { Vec::new() } else { vec![text.into()] }
        }
        None => Vec::new(),
    }
}

/// Replaces a block that a reader may refuse.
///
/// AgentScope loses all entries that it reads together with one that does not validate. So a URL that a strict reader may
/// refuse becomes text, and so does a URL that contains a tag of a notice.
fn readable(block: ContentBlock) -> ContentBlock {
    let ContentBlock::Data { source, name } = block else { return block };
    let safe = |text: String| match notice::text(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(safe) => safe,
    };
    let source = match source {
        DataSource::Base64 { data, media_type } => {
            DataSource::Base64 { data: safe(data), media_type: safe(media_type) }
        }
        DataSource::Url { url, media_type } => {
            if !url::is_certainly_valid(&url) || matches!(notice::text(&url), Cow::Owned(_)) {
                return url.into();
            }
            DataSource::Url { url, media_type: safe(media_type) }
        }
    };
    ContentBlock::Data { source, name: name.map(safe) }
}

/// Puts `start` before the content and [`END`] after it: into the first and the last block if they are text, else into
/// blocks of their own.
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

// The fields are in AgentScope's order.

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
