//! What the tests share: one user's session with one tool that is too slow.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::{Queue, keys};
use tower_offload::task::Scope;
use tower_offload::{
    OffloadLayer, TaskId, TaskManager, TaskRecord, TaskStatus, ToolCall, ToolResponse, ToolStop,
};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A call by alice's agent in session `s1`.
pub(crate) fn call(name: &str, input: &str) -> ToolCall {
    ToolCall::new(name, input).with_id("call_1").with_user("alice").with_session("s1").with_agent("agent")
}

pub(crate) fn scope() -> Scope {
    Scope::user("alice").in_session("s1")
}

/// Runs `call` on a tool that does `work`, behind the layer with all its defaults.
pub(crate) async fn run<F, E>(
    manager: &TaskManager,
    call: ToolCall,
    work: impl FnOnce(ToolCall) -> F + Clone,
) -> Result<ToolResponse, E>
where
    F: Future<Output = Result<ToolResponse, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
    ServiceBuilder::new().layer(layer).service(service_fn(|call| (work.clone())(call))).oneshot(call).await
}

/// The same for a call that is handed over: the task.
pub(crate) async fn offload<F>(manager: &TaskManager, work: F) -> TaskId
where
    F: Future<Output = Result<ToolResponse, BoxError>> + Send + 'static,
{
    let work = std::sync::Mutex::new(Some(work));
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
    let tool = service_fn(|_: ToolCall| work.lock().unwrap().take().expect("one call"));
    let service = ServiceBuilder::new().layer(layer).service(tool);
    task_id(&service.oneshot(call("slow_tool", "{}")).await.unwrap())
}

/// The task that a placeholder names.
pub(crate) fn task_id(placeholder: &ToolResponse) -> TaskId {
    placeholder.metadata["task_id"].as_str().expect("a placeholder").parse().unwrap()
}

/// A tool that answers `response` after 20 seconds.
pub(crate) async fn late(response: ToolResponse) -> Result<ToolResponse, BoxError> {
    tokio::time::sleep(secs(20)).await;
    Ok(response)
}

/// A tool that never ends.
pub(crate) async fn endless() -> Result<ToolResponse, BoxError> {
    std::future::pending().await
}

/// The last record of a task, when all its deliveries are through.
pub(crate) async fn ended(manager: &TaskManager, id: TaskId) -> TaskRecord {
    let record = manager.wait(&scope(), id).await.unwrap().expect("it is retained");
    while manager.stats().active > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    record
}

pub(crate) async fn record(manager: &TaskManager, id: TaskId) -> TaskRecord {
    manager.get(&scope(), id).await.unwrap().expect("it is retained")
}

/// Runs [`ToolStop`] for alice's session `s1`.
pub(crate) async fn stop(manager: &TaskManager, id: TaskId) -> ToolResponse {
    ToolStop::new(manager.clone()).run(&stop_call(&id.to_string())).await
}

pub(crate) fn stop_call(id: &str) -> ToolCall {
    call(ToolStop::NAME, &serde_json::json!({ "task_id": id }).to_string()).with_id("call_2")
}

/// Drains the inbox of session `s1`.
pub(crate) async fn inbox(bus: &(impl Queue + ?Sized)) -> Vec<String> {
    let entries = bus.drain(&keys::inbox("s1"), 100).await.unwrap();
    entries.into_iter().map(|entry| entry.payload).collect()
}

/// The one hint in the inbox.
pub(crate) async fn only_hint(manager: &TaskManager) -> String {
    let mut hints = inbox(&**manager.bus()).await;
    assert_eq!(hints.len(), 1, "{hints:?}");
    hints.remove(0)
}

pub(crate) async fn wakeups(bus: &(impl Queue + ?Sized)) -> Vec<Value> {
    let entries = bus.drain(keys::WAKEUPS, 100).await.unwrap();
    entries.iter().map(|entry| serde_json::from_str(&entry.payload).unwrap()).collect()
}

/// All that the model reads in a hint.
pub(crate) fn hint_text(payload: &str) -> String {
    let hint: Value = serde_json::from_str(payload).unwrap();
    match &hint["hint"] {
        Value::String(text) => text.clone(),
        blocks => blocks
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["text"].as_str().unwrap_or("[data]"))
            .collect::<Vec<_>>()
            .join("|"),
    }
}

/// Nothing was delivered, and nobody was woken.
pub(crate) async fn assert_silent(manager: &TaskManager) {
    assert_eq!(inbox(&**manager.bus()).await, [""; 0]);
    assert_eq!(wakeups(&**manager.bus()).await, [Value::Null; 0]);
}

pub(crate) fn text(response: &ToolResponse) -> &str {
    assert_eq!(response.content.len(), 1, "{response:?}");
    response.content[0].as_text().expect("text")
}

pub(crate) const fn is_running(record: &TaskRecord) -> bool {
    matches!(record.status, TaskStatus::Running)
}
