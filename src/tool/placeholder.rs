use std::fmt;

use super::{ToolResponse, notice, python};
use crate::offload::{Offloaded, RespondOffloaded};

/// The responding hook for tool calls. It answers a call that was handed over, in the words of AgentScope's
/// `ToolOffloadMiddleware`.
///
/// The text says that the tool goes on in the background, that a notification follows at its end, and what the agent may do
/// until then. The response has the id of the call, the state `success`, one block of text, and the metadata `call_id` and
/// `task_id`.
///
/// Where the text of AgentScope has `(id=TASK)`, this one has `(id=TASK, call_id=CALL)`, so that the agent can match the
/// [hint](super::DeliverHint) by either id. Without a call id, the text is that of AgentScope.
///
/// The name of the tool and the id of the call cannot close the notice: in the text, a tag such as `</system-reminder>`
/// loses its brackets, NUL is removed, and other control characters become spaces. The id of the response and the metadata
/// contain the ids unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondPlaceholder;

impl<Call> RespondOffloaded<Call, ToolResponse> for RespondPlaceholder {
    fn respond(&self, offloaded: &Offloaded<'_, Call>) -> ToolResponse {
        let task = offloaded.task;
        let task_id = task.id.to_string();
        let call_id = task.meta.call_id();
        let text = Text {
            tool_name: &notice::line(task.meta.tool_name()),
            task_id: &task_id,
            call_id: call_id.map(notice::line).as_deref(),
            seconds: &python::seconds(offloaded.timeout),
        }
        .to_string();
        let response = ToolResponse::text(call_id.unwrap_or_default(), text);
        match call_id {
            Some(call_id) => response.with_metadata("call_id", call_id),
            None => response,
        }
        .with_metadata("task_id", task_id)
    }
}

struct Text<'a> {
    tool_name: &'a str,
    task_id: &'a str,
    call_id: Option<&'a str>,
    seconds: &'a str,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool_name, task_id, call_id, seconds } = self;
        write!(f, "<system-reminder>Tool '{tool_name}' is running in background (id={task_id}")?;
        if let Some(call_id) = call_id {
            write!(f, ", call_id={call_id}")?;
        }
        write!(
            f,
            ") for over {seconds}s. \
             You will be notified automatically when it finishes, so **DO NOT** poll, query, or wait for the result \
             yourself. **DO NOT** call any waiting tool such as `bash sleep`. You have exactly two valid options:\n\
             1. Continue with other independent tasks and ignore this tool for now; or\n\
             2. If there is nothing else to do, simply give a text reply without calling any tool, which ends the \
             current reasoning loop — just do nothing and end this run.\n\
             </system-reminder>"
        )
    }
}
