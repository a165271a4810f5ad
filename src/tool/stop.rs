use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tower_service::Service;

use super::{ToolCall, ToolResponse, notice};
use crate::log_limit::LogLimit;
use crate::manager::StopOutcome;
use crate::task::{Outcome, Scope, TaskId, TaskRecord, TaskStatus, logged};
use crate::{TaskManager, bus};

/// The tool that lets an agent stop a background task: AgentScope's `ToolStop`.
///
/// It is a tool service. A call reaches only the tasks of its own user and session. A task of another user gets the same
/// answer as a task that does not exist. A call without a user or session reaches no task that has one. The tool may run
/// concurrently with other tools, and needs no permission.
///
/// | the task | state | the answer |
/// | --- | --- | --- |
/// | ran in this process and has stopped | `success` | `Task ID stopped successfully.` |
/// | runs in this process and has not stopped after the [wait](Self::max_wait) | `success` | that it was asked to stop and is still stopping |
/// | ended by itself after the request | `success` | that it did, and its status |
/// | had ended before | `success` | that it had, and its status |
/// | runs in another process | `success` | `Cancel request sent for task ID. The owning worker will stop it shortly.` |
/// | does not exist | `error` | `TaskNotFoundError: The task ID does not exist.` |
/// | is not named in the input | `error` | the fault of the input |
/// | cannot be looked up on the bus | `error` | that it could not be stopped, and the error |
///
/// The metadata of an answer contains the `task_id` as the model wrote it, and the `status` where it is known. In the text,
/// an id has at most 128 characters on one line, and no tag of a notice such as `</system-notification>`. The record of the
/// task stays, and a second stop answers that the task has ended. AgentScope drops the record, and answers "stopped" before
/// the task has stopped and for tasks that had completed.
///
/// A stop is a request. Dropping the future while it waits does not withdraw the request.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_offload::{TaskManager, TaskMeta, ToolCall, ToolStop};
///
/// let manager = TaskManager::new();
/// let meta = TaskMeta::new("alice", "Bash").with_session("s1");
/// let task = manager.spawn(meta, std::future::pending::<()>())?;
///
/// let stop = ToolStop::new(manager);
/// let input = format!(r#"{{"task_id": "{}"}}"#, task.id);
/// let call = ToolCall::new(ToolStop::NAME, input).with_id("call_2").with_user("alice").with_session("s1");
/// let response = stop.run(&call).await;
/// assert_eq!(response.content[0].as_text(), Some(&*format!("Task {} stopped successfully.", task.id)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ToolStop {
    manager: TaskManager,
    wait: Duration,
}

impl ToolStop {
    /// The tool's name.
    pub const NAME: &str = "ToolStop";

    /// The description of the tool for the model.
    pub const DESCRIPTION: &str = "Stop a background tool execution by its task id. Use this when you want to \
                                   cancel a previously offloaded tool that is still running in the background.";

    /// The JSON schema of the input, as text.
    pub const INPUT_SCHEMA: &str = concat!(
        r#"{"description": "The params of the stop tool.", "properties": {"task_id": {"description": "#,
        r#""The task id of the background tool to stop.", "title": "Task Id", "type": "string"}}, "#,
        r#""required": ["task_id"], "title": "_ToolStopParams", "type": "object"}"#
    );

    /// Stops tasks of `manager`, and tasks of other processes over its bus.
    #[must_use]
    pub const fn new(manager: TaskManager) -> Self {
        Self { manager, wait: Duration::from_secs(5) }
    }

    /// Sets how long the tool waits for the end of a task that it has asked to stop. With [`Duration::ZERO`] it answers at
    /// once. Default: 5 seconds.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The JSON schema of the input: [`INPUT_SCHEMA`](Self::INPUT_SCHEMA).
    #[must_use]
    pub fn input_schema() -> Value {
        json!({
            "description": "The params of the stop tool.",
            "properties": {
                "task_id": {
                    "description": "The task id of the background tool to stop.",
                    "title": "Task Id",
                    "type": "string",
                },
            },
            "required": ["task_id"],
            "title": "_ToolStopParams",
            "type": "object",
        })
    }

    /// Runs the tool. Each failure is a response with the state `error`.
    pub async fn run(&self, call: &ToolCall) -> ToolResponse {
        let id = match task_id(call) {
            Ok(id) => id,
            Err(problem) => {
                let text = format!(
                    "InvalidInputError: {problem}. {} needs a JSON object with the string \"task_id\".",
                    Self::NAME
                );
                return ToolResponse::error(call.id(), text);
            }
        };
        let answer = match self.stop(call, &id).await {
            Ok(answer) => answer,
            Err(error) => {
                static LINES: LogLimit = LogLimit::new();
                LINES.write(|left_out| {
                    // A model writes the id, so it may be any text.
                    let (task_id, error) = (logged(&id), &error as &dyn std::error::Error);
                    tracing::warn!(task_id, error, left_out, "a stop request failed");
                });
                let id = shown_id(&id);
                let (error, _) = self.manager.redactor().text(&error, Outcome::MAX_ERROR_CHARS);
                let error = notice::text(&error);
                let text =
                    format!("BusError: The task {id} could not be looked up, try again later: {error}.");
                return ToolResponse::error(call.id(), text);
            }
        };
        match answer.response(call.id(), &id) {
            (response, None) => response,
            (response, Some(status)) => response.with_metadata("status", status.as_str()),
        }
    }

    async fn stop(&self, call: &ToolCall, id: &str) -> bus::Result<Answer> {
        let scope = Scope::user(call.user_id()).in_session(call.session_id());
        Ok(match self.manager.stop_foreign(&scope, id).await? {
            StopOutcome::Requested => self.gone(&scope, id).await?,
            StopOutcome::RequestedElsewhere => Answer::Elsewhere,
            StopOutcome::AlreadyFinished(task) => Answer::EndedBefore(task),
            StopOutcome::NotFound => Answer::NotFound,
        })
    }

    /// Waits until the task has stopped, which is when its future has been dropped.
    async fn gone(&self, scope: &Scope, id: &str) -> bus::Result<Answer> {
        let Ok(task) = id.parse::<TaskId>() else { return Ok(Answer::Stopping) };
        let Ok(ended) = tokio::time::timeout(self.wait, self.manager.wait(scope, task)).await else {
            return Ok(Answer::Stopping);
        };
        Ok(match ended? {
            Some(task) if task.status == TaskStatus::Cancelled => Answer::Stopped,
            Some(task) => Answer::EndedByItself(task),
            None => Answer::Forgotten,
        })
    }
}

enum Answer {
    Stopped,
    Stopping,
    EndedByItself(TaskRecord),
    EndedBefore(TaskRecord),
    /// It has ended, and its record was dropped before this call could read it.
    Forgotten,
    Elsewhere,
    NotFound,
}

impl Answer {
    fn response(&self, call_id: &str, task_id: &str) -> (ToolResponse, Option<TaskStatus>) {
        let id = shown_id(task_id);
        let (text, status) = match self {
            Self::Stopped => (format!("Task {id} stopped successfully."), Some(TaskStatus::Cancelled)),
            Self::Stopping => {
                let text =
                    format!("Task {id} was asked to stop. It has not ended yet and is still stopping.");
                (text, Some(TaskStatus::Running))
            }
            Self::EndedByItself(TaskRecord { status, .. }) => {
                let text =
                    format!("Task {id} finished by itself before it was stopped. Its status is {status}.");
                (text, Some(*status))
            }
            Self::EndedBefore(TaskRecord { status, .. }) => {
                let text = format!("Task {id} has already finished. Its status is {status}.");
                (text, Some(*status))
            }
            Self::Forgotten => (format!("Task {id} is not running any more."), None),
            Self::Elsewhere => {
                let text =
                    format!("Cancel request sent for task {id}. The owning worker will stop it shortly.");
                (text, None)
            }
            Self::NotFound => {
                let text = format!("TaskNotFoundError: The task {id} does not exist.");
                return (ToolResponse::error(call_id, text).with_metadata("task_id", task_id), None);
            }
        };
        (ToolResponse::text(call_id, text).with_metadata("task_id", task_id), status)
    }
}

/// Makes the id safe for an answer. The model wrote it, and may have copied it from any text.
fn shown_id(id: &str) -> String {
    const MAX_CHARS: usize = 128;
    let line = notice::line(id);
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line.into_owned(),
    }
}

/// The id in the input, or the fault of the input.
fn task_id(call: &ToolCall) -> Result<String, String> {
    let mut input: Map<String, Value> = match call.parse_input() {
        Ok(Value::Object(input)) => input,
        Ok(_) => return Err("The input is not a JSON object".to_owned()),
        Err(error) => return Err(format!("The input is not JSON: {error}")),
    };
    match input.remove("task_id") {
        Some(Value::String(id)) if id.is_empty() => Err("The task_id is empty".to_owned()),
        Some(Value::String(id)) => Ok(id),
        Some(_) => Err("The task_id is not a string".to_owned()),
        None => Err("The task_id is missing".to_owned()),
    }
}

impl Service<ToolCall> for ToolStop {
    type Response = ToolResponse;
    type Error = Infallible;
    type Future = ToolStopFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: ToolCall) -> ToolStopFuture {
        let tool = self.clone();
        ToolStopFuture { inner: Box::pin(async move { tool.run(&call).await }) }
    }
}

/// Response future for [`ToolStop`].
#[must_use = "futures do nothing unless polled"]
pub struct ToolStopFuture {
    inner: Pin<Box<dyn Future<Output = ToolResponse> + Send>>,
}

impl Future for ToolStopFuture {
    type Output = Result<ToolResponse, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ToolStopFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolStopFuture").finish_non_exhaustive()
    }
}
