use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, Value};

use super::super::{BusError, Result};
use super::answer::{decode, is_unknown_script};
use super::link::Link;
use super::script::Call;
use super::server::Server;

/// Sends commands and scripts over the one connection for them.
///
/// Each method waits for one answer, or for two when the server did not know a script, and never for longer than the
/// timeouts. `operation` completes "could not ..." in errors. A call that is dropped may have been executed or not.
#[derive(Debug)]
pub(super) struct Client {
    link: Link,
}

/// One of several steps that are sent together.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Command(Cmd),
    Script(Call<'a>),
}

impl Client {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { link: Link::new(server) }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Runs one command.
    pub(super) async fn query<T: FromRedisValue>(&self, operation: &'static str, command: Cmd) -> Result<T> {
        let values = self.pipeline(operation, vec![Step::Command(command)]).await?;
        decode(operation, only(values))
    }

    /// Runs a script: by its digest, and by its text if the server does not know it, which is so after it was started
    /// anew and after `SCRIPT FLUSH`.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        operation: &'static str,
        call: Call<'_>,
    ) -> Result<T> {
        let values = self.pipeline(operation, vec![Step::Script(call)]).await?;
        decode(operation, only(values))
    }

    /// Runs steps in one round trip, and returns an answer for each, in order; some may be `Value::ServerError`.
    ///
    /// The steps are not one transaction, and must not depend on each other's order: scripts that the server did not
    /// know have not been executed, and are sent again by their text, after the others. What belongs together
    /// belongs in one script.
    pub(super) async fn pipeline(&self, operation: &'static str, steps: Vec<Step<'_>>) -> Result<Vec<Value>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Pipeline::with_capacity(steps.len());
        let mut calls = Vec::new();
        for (place, step) in steps.into_iter().enumerate() {
            match step {
                Step::Command(command) => commands.add_command(command),
                Step::Script(call) => {
                    let command = call.by_digest();
                    calls.push((place, call));
                    commands.add_command(command)
                }
            };
        }
        let mut values = self.send_all(operation, &commands).await?;

        calls.retain(|(place, _)| is_unknown_script(&values[*place]));
        if !calls.is_empty() {
            commands.clear();
            for (_, call) in &calls {
                commands.add_command(call.by_text());
            }
            let late = self.send_all(operation, &commands).await?;
            for ((place, _), value) in calls.into_iter().zip(late) {
                values[place] = value;
            }
        }
        Ok(values)
    }

    async fn send_all(&self, operation: &'static str, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let values = self.link.send(pipeline).await;
        let values = values.map_err(|error| BusError::new(operation, error))?;
        if values.len() != pipeline.len() {
            let reason = format!("{} answers to {} commands", values.len(), pipeline.len());
            return Err(BusError::new(operation, reason));
        }
        Ok(values)
    }
}

fn only(mut values: Vec<Value>) -> Value {
    values.pop().unwrap_or(Value::Nil)
}
