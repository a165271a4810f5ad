//! Hooks for the tool calls of an agent, and the tool that stops them.
//!
//! A tool service takes a [`ToolCall`] and answers with a [`ToolResponse`]. Wrap it in [`OffloadLayer::for_tools`] to get
//! what AgentScope's `ToolOffloadMiddleware` does: a tool that takes too long goes on in the background, and the agent gets
//! an answer at once that says so. When the tool ends, the layer puts the result into the inbox of the session and wakes
//! the session. [`ToolStop`] is the tool that lets the agent stop such a task.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use std::time::Duration;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_offload::bus::{Queue, keys};
//! use tower_offload::task::Scope;
//! use tower_offload::tool::ToolPolicy;
//! use tower_offload::{OffloadLayer, TaskId, TaskManager, ToolCall, ToolResponse, ToolStop};
//!
//! let manager = TaskManager::new();
//! let stop = ToolStop::new(manager.clone());
//! // The tools of the host. This one is slow.
//! let tools = service_fn(move |call: ToolCall| {
//!     let stop = stop.clone();
//!     async move {
//!         match call.name() {
//!             ToolStop::NAME => Ok(stop.run(&call).await),
//!             "Bash" => {
//!                 tokio::time::sleep(Duration::from_secs(60)).await;
//!                 Ok(ToolResponse::text(call.id(), "42 tests passed"))
//!             }
//!             name => Err(BoxError::from(format!("there is no tool {name}"))),
//!         }
//!     }
//! });
//! let tools = ServiceBuilder::new()
//!     .layer(
//!         OffloadLayer::for_tools(manager.clone(), Duration::from_secs(10))
//!             .describe(ToolPolicy::new().never("AskUser")),
//!     )
//!     .service(tools);
//!
//! let call = ToolCall::new("Bash", r#"{"command": "cargo test"}"#)
//!     .with_id("call_1")
//!     .with_user("alice")
//!     .with_session("session-1")
//!     .with_agent("agent");
//! let placeholder = tools.oneshot(call).await?;
//! let task_id: TaskId = placeholder.metadata["task_id"].as_str().ok_or("no id")?.parse()?;
//!
//! // The user watches the task.
//! let task = manager.wait(&Scope::user("alice"), task_id).await?.ok_or("gone")?;
//! assert_eq!(task.status.as_str(), "completed");
//!
//! // The agent reads its inbox.
//! # tokio::task::yield_now().await;
//! let hints = manager.bus().drain(&keys::inbox("session-1"), 100).await?;
//! assert!(hints[0].payload.contains("has completed.\\n\\nResult:\\n\\n42 tests passed"));
//! # Ok(())
//! # }
//! ```
//!
//! # The hooks
//!
//! | slot | hook | |
//! | --- | --- | --- |
//! | [`describe`](OffloadLayer::describe) | [`ToolPolicy`] | which tools are handed over, and when |
//! | [`respond`](OffloadLayer::respond) | [`RespondPlaceholder`] | the answer that the agent gets at the hand-over |
//! | [`classify`](OffloadLayer::classify) | [`ClassifyToolState`] | the state of the response is the outcome |
//! | [`deliver`](OffloadLayer::deliver) | [`DeliverHint`] | the result as a hint in the session's inbox |
//!
//! Each hook works alone, too. The placeholder and the hint use the record of the task, so they work with any describing
//! hook.
//!
//! # Tools that watch for a stop
//!
//! When a task is asked to stop, the manager drops it after its grace time, which is zero by default. A tool that has to
//! clean up first watches its [`cancellation_token`](crate::cancellation_token). When the token is cancelled, the tool
//! answers with the state [`Interrupted`](ToolState::Interrupted). The task is then `cancelled`, and nothing is delivered.
//! A tool that answers with a success anyway has completed, and the hint says so.
//!
//! # Differences from AgentScope
//!
//! - The hint of a tool that fails, panics, or reaches the run-time limit says that it has failed.
//! - The layer delivers no hint for a tool that was stopped.
//! - The placeholder and the hint contain both ids, that of the task and that of the call.
//! - No text of a tool, a caller or a model can close or imitate a notice to the agent; see [`DeliverHint`].
//! - A delivery that fails is repeated, and wakes the session once.
//! - A tool service answers with complete responses. It does not stream.

#[cfg(doc)]
use crate::OffloadLayer;

mod call;
mod classify;
mod content;
mod deliver;
mod hint;
mod layer;
mod lookalikes;
mod notice;
mod placeholder;
mod policy;
mod python;
mod response;
mod stop;
mod url;

pub use self::call::ToolCall;
pub use self::classify::ClassifyToolState;
pub use self::content::{ContentBlock, DataSource};
pub use self::deliver::DeliverHint;
pub use self::layer::ToolHooks;
pub use self::placeholder::RespondPlaceholder;
pub use self::policy::{ToolPolicy, ToolRule};
pub use self::response::{ToolResponse, ToolState};
pub use self::stop::{ToolStop, ToolStopFuture};
