//! Hooks for the tool calls of an agent, and the tool that stops them.
//!
//! A tool service takes a [`ToolCall`] and answers with a [`ToolResponse`]. [`OffloadLayer::for_tools`] around it does for
//! an agent what AgentScope's `ToolOffloadMiddleware` does: a tool that takes too long goes on in the background, the
//! agent gets an answer at once that says so, and when the tool ends its result goes into the session's inbox and the
//! session is woken. [`ToolStop`] is the tool by which the agent stops such a task.
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
//! // The host's tools; here one that is slow.
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
//! // What a user sees meanwhile, and after.
//! let task = manager.wait(&Scope::user("alice"), task_id).await?.ok_or("gone")?;
//! assert_eq!(task.status.as_str(), "completed");
//!
//! // What the agent finds in its inbox.
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
//! Each can be used alone. Placeholder and hint are made from the task's record, so they work with any describing hook.
//!
//! # Tools that watch for a stop
//!
//! A task that is asked to stop is dropped after the grace time of the manager, at once by default. A tool that wants
//! to end in good order fetches its [`cancellation_token`](crate::cancellation_token) and, once that is cancelled,
//! answers with the state [`Interrupted`](ToolState::Interrupted): then the task is `cancelled`, and nothing is
//! delivered. A tool that answers with a success all the same has completed, and is announced as completed.
//!
//! # Differences from AgentScope
//!
//! - A tool that fails or panics, or runs into the run-time limit, is announced as failed.
//! - A tool that was stopped is not announced, and never as completed.
//! - Placeholder and hint name both ids, the task's and the call's.
//! - No text of a tool, a caller or a model can close a notice to the agent, or imitate one; see [`DeliverHint`].
//! - A delivery that fails is repeated, and wakes the session once.
//! - There is no streaming: a tool service answers with complete responses, not with chunks.

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
pub use self::policy::{DescribedCall, ToolPolicy, ToolRule};
pub use self::response::{ToolResponse, ToolState};
pub use self::stop::{ToolStop, ToolStopFuture};
