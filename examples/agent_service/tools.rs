//! The tools, as one tower service.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::Service;
use tower_offload::cancellation_token;
use tower_offload::tool::{ToolCall, ToolResponse, ToolStop};

use crate::bash::Commands;
use crate::error::CallError;

#[derive(Deserialize)]
struct Bash {
    command: String,
}

#[derive(Deserialize)]
struct Sleep {
    seconds: f64,
}

#[derive(Deserialize)]
struct Fail {
    seconds: f64,
    message: String,
}

#[derive(Deserialize)]
struct Panic {
    seconds: f64,
}

#[derive(Deserialize)]
struct Stop {
    #[expect(dead_code, reason = "the tool reads it itself; here it only has to be there")]
    task_id: String,
}

/// All tools. A call that cannot be made fails at once, before it could move to the background.
#[derive(Clone, Debug)]
pub(crate) struct Toolbox {
    stop: ToolStop,
    commands: Commands,
}

impl Toolbox {
    pub(crate) const fn new(stop: ToolStop, commands: Commands) -> Self {
        Self { stop, commands }
    }

    fn start(&mut self, call: ToolCall) -> Result<BoxFuture<'static, ToolResponse>, CallError> {
        let id = call.id().to_owned();
        Ok(match call.name() {
            "Bash" => {
                let Bash { command } = input(&call)?;
                if command.contains('\0') {
                    return Err(CallError::BadInput("command: a NUL cannot be passed on".to_owned()));
                }
                let commands = self.commands.clone();
                Box::pin(async move {
                    match commands.run(&command).await {
                        Ok(ended) if ended.stopped => ToolResponse::interrupted(id, ended.output),
                        Ok(ended) if ended.status.success() => ToolResponse::text(id, ended.output),
                        Ok(ended) => ToolResponse::error(id, format!("{}[{}]", ended.output, ended.status)),
                        Err(error) => ToolResponse::error(id, format!("bash: {error}")),
                    }
                })
            }
            "Sleep" => {
                let seconds = input::<Sleep>(&call)?.seconds;
                let time = duration(seconds)?;
                pause(time, id, move |id| ToolResponse::text(id, format!("slept for {seconds} s")))
            }
            "Fail" => {
                let Fail { seconds, message } = input(&call)?;
                let time = duration(seconds)?;
                pause(time, id, move |id| ToolResponse::error(id, message))
            }
            "Panic" => {
                let time = duration(input::<Panic>(&call)?.seconds)?;
                pause(time, id, |_| panic!("as asked"))
            }
            ToolStop::NAME => {
                input::<Stop>(&call)?;
                let stop = self.stop.clone();
                Box::pin(async move { stop.run(&call).await })
            }
            _ => return Err(CallError::UnknownTool),
        })
    }
}

impl Service<ToolCall> for Toolbox {
    type Response = ToolResponse;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<ToolResponse, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: ToolCall) -> Self::Future {
        match self.start(call) {
            Ok(work) => Box::pin(async { Ok(work.await) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// Answers after a time, or as soon as the task is asked to stop.
fn pause(
    time: Duration,
    id: String,
    answer: impl FnOnce(String) -> ToolResponse + Send + 'static,
) -> BoxFuture<'static, ToolResponse> {
    Box::pin(async move {
        match cancellation_token().run_until_cancelled(tokio::time::sleep(time)).await {
            Some(()) => answer(id),
            None => ToolResponse::interrupted(id, "stopped"),
        }
    })
}

fn input<T: DeserializeOwned>(call: &ToolCall) -> Result<T, CallError> {
    call.parse_input().map_err(|error| CallError::BadInput(format!("the input of {}: {error}", call.name())))
}

fn duration(seconds: f64) -> Result<Duration, CallError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| CallError::BadInput(format!("seconds: {seconds} is not a number of seconds from 0 on")))
}
