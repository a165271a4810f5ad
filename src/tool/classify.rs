use std::fmt;

use super::{ToolResponse, ToolState};
use crate::offload::ClassifyResult;
use crate::task::{Outcome, Settlement, TaskResult};

/// The classifying hook for tool calls. It turns the state of the response into the outcome of the task.
///
/// | what the tool service returned | the task |
/// | --- | --- |
/// | [`Success`](ToolState::Success) | `completed` |
/// | [`Error`](ToolState::Error), [`Denied`](ToolState::Denied) | `failed`, with the text of the response |
/// | [`Interrupted`](ToolState::Interrupted) | `cancelled` if it was asked to stop, otherwise `failed` |
/// | `Err` | `failed`, with the error's text |
///
/// The manager also stores each response as the [result](crate::TaskManager::result) of the task: its JSON, with the media
/// type `application/json`.
///
/// In AgentScope, a tool that raises or that is stopped counts as completed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyToolState;

impl<E: fmt::Display> ClassifyResult<ToolResponse, E> for ClassifyToolState {
    fn classify(&self, result: Result<&ToolResponse, &E>) -> Settlement {
        let response = match result {
            Ok(response) => response,
            Err(error) => return Outcome::failed(error).into(),
        };
        let outcome = match response.state {
            ToolState::Success => Outcome::Completed,
            ToolState::Interrupted => Outcome::Cancelled,
            ToolState::Error | ToolState::Denied => failed(response),
        };
        match serde_json::to_vec(response) {
            Ok(json) => Settlement::with_result(outcome, TaskResult::new("application/json", json)),
            Err(error) => {
                tracing::error!(%error, "the response of a background tool cannot be written and is not kept");
                outcome.into()
            }
        }
    }
}

fn failed(response: &ToolResponse) -> Outcome {
    if response.content.iter().any(|block| block.as_text().is_some_and(|text| !text.is_empty())) {
        Outcome::failed(response.display_text())
    } else {
        Outcome::failed(format_args!("the tool answered with the state {} and no text", response.state))
    }
}
