use std::sync::Arc;
use std::time::Duration;

use super::{ClassifyToolState, DeliverHint, RespondPlaceholder, ToolPolicy};
use crate::TaskManager;
use crate::offload::{Hooks, OffloadLayer};

/// The hooks that [`OffloadLayer::for_tools`] sets.
pub type ToolHooks = Hooks<ToolPolicy, RespondPlaceholder, ClassifyToolState, DeliverHint>;

impl OffloadLayer {
    /// A layer for a service that takes a [`ToolCall`](crate::ToolCall) and answers with a
    /// [`ToolResponse`](crate::ToolResponse), with all hooks set: a call that is not done after `timeout` is handed over
    /// to `manager`, and its result is delivered over the manager's bus. AgentScope's default timeout is 10 seconds.
    ///
    /// Each hook can be replaced, such as the policy by
    /// `.describe(ToolPolicy::new().never("AskUser"))`. See [`ToolPolicy`], [`RespondPlaceholder`],
    /// [`ClassifyToolState`] and [`DeliverHint`] for what they do, and the [module](crate::tool) for an example.
    ///
    /// The error type of the service has to implement [`Display`](std::fmt::Display), to be told to the agent.
    #[cfg_attr(docsrs, doc(cfg(feature = "tool")))]
    pub fn for_tools(manager: TaskManager, timeout: Duration) -> OffloadLayer<ToolHooks> {
        let deliverer = DeliverHint::new(Arc::clone(manager.bus())).redactor(manager.redactor().clone());
        Self::new(manager, timeout)
            .describe(ToolPolicy::new())
            .respond(RespondPlaceholder)
            .classify(ClassifyToolState)
            .deliver(deliverer)
    }
}
