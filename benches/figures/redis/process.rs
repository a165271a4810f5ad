//! What stands for a process: a manager on a bus of its own, with a connection of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::task::Scope;
use tower_offload::{OffloadLayer, RedisBus, TaskManager, ToolCall, ToolResponse};

pub(crate) type Tool = BoxCloneSyncService<ToolCall, ToolResponse, Infallible>;

/// How long a call stays in the foreground.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1);

pub(crate) struct Process {
    pub(crate) bus: RedisBus,
    pub(crate) manager: TaskManager,
    /// Whether the tools may answer.
    gate: watch::Sender<bool>,
}

impl Process {
    /// With a lease that is not renewed while anything is counted or timed.
    pub(crate) async fn start(url: &str) -> Self {
        Self::with_lease(url, Duration::from_secs(3600)).await
    }

    pub(crate) async fn with_lease(url: &str, lease: Duration) -> Self {
        let bus = RedisBus::builder(url).connect().await.expect("the server answers");
        let manager = TaskManager::builder().lease(lease).bus(Arc::new(bus.clone())).build();
        let process = Self { bus, manager, gate: watch::Sender::new(true) };
        // The first write of all finds no lease, and has the owner look after its tasks; and the scripts are sent by
        // their text. Neither belongs to a task.
        process.call(call("warm-up", "warm-up", 0)).await;
        process.settled().await;
        process.quiet().await;
        process
    }

    /// A tool that answers when the gate is opened, behind the layer with all its defaults.
    pub(crate) fn tool(&self) -> Tool {
        let gate = self.gate.subscribe();
        let layer = OffloadLayer::for_tools(self.manager.clone(), TIMEOUT);
        let tool = service_fn(move |call: ToolCall| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                Ok(ToolResponse::text(call.id(), "42 files were changed, and all of them were tested again."))
            }
        });
        BoxCloneSyncService::new(ServiceBuilder::new().layer(layer).service(tool))
    }

    /// Makes the tools wait.
    pub(crate) fn close(&self) {
        self.gate.send_replace(false);
    }

    /// Lets the tools answer, all of them at once.
    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    /// Hands one call over and lets it end.
    async fn call(&self, call: ToolCall) {
        self.close();
        let Ok(_placeholder) = self.tool().oneshot(call).await;
        // Otherwise its end might be all that is written.
        self.written().await;
        self.open();
    }

    /// Waits until all tasks are in the directory as they are here.
    pub(crate) async fn written(&self) {
        self.until(|process| process.manager.health().waiting_since.is_none()).await;
    }

    /// Waits until all tasks have ended and all results are delivered.
    pub(crate) async fn settled(&self) {
        self.until(|process| {
            // In this order: a task that ends meanwhile is in one of them.
            process.manager.stats().running == 0 && {
                let health = process.manager.health();
                health.waiting_since.is_none() && health.waiting_results == 0
            }
        })
        .await;
    }

    /// Waits until it has nothing more to say.
    async fn quiet(&self) {
        let mut before = None;
        while before.replace(self.round_trips()) != Some(self.round_trips()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn round_trips(&self) -> u64 {
        self.bus.stats().round_trips
    }

    pub(crate) async fn list(&self, user: &str) -> usize {
        self.manager.list(&Scope::user(user)).await.expect("the directory can be read").len()
    }
}

/// A call by the agent of a user's session.
pub(crate) fn call(user: &str, session: &str, number: usize) -> ToolCall {
    ToolCall::new("Bash", format!(r#"{{"command": "cargo test --workspace -- --shard {number}"}}"#))
        .with_id(format!("call_{number:024}"))
        .with_user(user)
        .with_session(session)
        .with_agent("agent-1")
}
