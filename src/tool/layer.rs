use std::sync::Arc;
use std::time::Duration;

use super::{ClassifyToolState, DeliverHint, RespondPlaceholder, ToolPolicy};
use crate::TaskManager;
use crate::offload::{Hooks, OffloadLayer};

/// The hooks that [`OffloadLayer::for_tools`] sets.
pub type ToolHooks = Hooks<ToolPolicy, RespondPlaceholder, ClassifyToolState, DeliverHint>;

impl OffloadLayer {
    /// Makes a layer with all hooks, for a service that takes a [`ToolCall`](crate::ToolCall) and answers with a
    /// [`ToolResponse`](crate::ToolResponse). The layer hands over to `manager` each call that has not ended after
    /// `timeout`, and delivers its result over the bus of the manager. The default timeout of AgentScope is 10 seconds.
    ///
    /// To replace a hook, set another one, such as `.describe(ToolPolicy::new().never("AskUser"))`. The hooks are
    /// [`ToolPolicy`], [`RespondPlaceholder`], [`ClassifyToolState`] and [`DeliverHint`]. The [module](crate::tool) has an
    /// example.
    ///
    /// The error type of the service has to implement [`Display`](std::fmt::Display), because hints contain its text.
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
