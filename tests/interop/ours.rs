//! Our side: a manager with a tool behind the layer.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::{RedisBus, SharedBus};
use tower_offload::{OffloadLayer, TaskId, TaskManager, ToolCall, ToolResponse};

use crate::redis_server::RedisServer;

/// What AgentScope writes as `0.001`.
const TIMEOUT: Duration = Duration::from_millis(1);

/// A call by alice's agent, whose call id is `call_1`.
pub(crate) fn call(session: &str, tool: &str) -> ToolCall {
    ToolCall::new(tool, "{}").with_id("call_1").with_user("alice").with_session(session).with_agent("agent")
}

/// Has the layer hand over a call to a tool that does `work` once it was handed over, and answers the placeholder.
pub(crate) async fn offload<F, E>(manager: &TaskManager, call: ToolCall, work: F) -> ToolResponse
where
    F: Future<Output = Result<ToolResponse, E>> + Send + 'static,
    E: fmt::Display + fmt::Debug + Send + 'static,
{
    let (begin, handed_over) = oneshot::channel();
    let work = Mutex::new(Some(async {
        handed_over.await.unwrap();
        work.await
    }));
    let tool = service_fn(|_: ToolCall| work.lock().unwrap().take().expect("one call"));
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
    let placeholder = ServiceBuilder::new().layer(layer).service(tool).oneshot(call).await.unwrap();
    begin.send(()).unwrap();
    placeholder
}

/// The task that a placeholder names.
pub(crate) fn task_id(placeholder: &ToolResponse) -> TaskId {
    placeholder.metadata["task_id"].as_str().expect("a placeholder").parse().unwrap()
}

/// Waits until all tasks have ended and their results are delivered.
pub(crate) async fn all_delivered(manager: &TaskManager) {
    crate::until(async || (manager.stats().active == 0).then_some(())).await;
    assert_eq!(manager.stats().undelivered, 0);
}

/// A bus on the server that the test shares with AgentScope.
pub(crate) fn bus(redis: &RedisServer) -> SharedBus {
    Arc::new(RedisBus::builder(redis.url()).build().unwrap())
}

pub(crate) fn manager(redis: &RedisServer) -> TaskManager {
    TaskManager::builder().bus(bus(redis)).build()
}
