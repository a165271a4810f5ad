//! A process: a manager with its own way to the server, and what is built on it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::oneshot;
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::bus::{Queue, keys};
use tower_offload::manager::{TaskManagerBuilder, TaskManagerHealth};
use tower_offload::task::Scope;
use tower_offload::tool::{ToolCall, ToolHooks, ToolResponse};
use tower_offload::{
    BackgroundTasks, CancelDispatcher, OffloadLayer, RedisBus, TaskId, TaskManager, TaskStatus,
};

use crate::support::alice;
use crate::world::until;

/// When calls move to the background.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(50);

pub(crate) struct Process {
    pub(crate) bus: RedisBus,
    pub(crate) manager: TaskManager,
    pub(crate) layer: OffloadLayer<ToolHooks>,
    _dispatcher: Option<CancelDispatcher>,
}

/// A call of a tool that goes on in the background until it is told what to answer.
pub(crate) struct Running {
    pub(crate) id: TaskId,
    answer: oneshot::Sender<String>,
}

impl Running {
    pub(crate) fn end(self, answer: &str) -> TaskId {
        self.answer.send(answer.to_owned()).expect("it runs");
        self.id
    }
}

impl Process {
    pub(crate) async fn start(bus: RedisBus, builder: TaskManagerBuilder) -> Self {
        let manager = builder.bus(Arc::new(bus.clone())).build();
        let dispatcher = CancelDispatcher::start(&manager).await.unwrap();
        Self { _dispatcher: Some(dispatcher), ..Self::deaf(bus, manager) }
    }

    /// One that listens for nothing.
    pub(crate) fn deaf(bus: RedisBus, manager: TaskManager) -> Self {
        let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
        Self { bus, manager, layer, _dispatcher: None }
    }

    /// Calls a tool that takes its time, and answers when it has moved to the background.
    pub(crate) async fn offload(&self) -> Running {
        let (answer, told) = oneshot::channel();
        let mut told = Some(told);
        let tool = service_fn(move |call: ToolCall| {
            let told = told.take().expect("it is called once");
            async move {
                let answer = told.await.unwrap_or_default();
                Ok::<_, Infallible>(ToolResponse::text(call.id(), answer))
            }
        });
        let placeholder = self.layer.layer(tool).oneshot(call()).await.unwrap();
        let id = placeholder.metadata["task_id"].as_str().expect("the placeholder of a task");
        Running { id: id.parse().unwrap(), answer }
    }

    /// The tasks of alice as this process shows them, by id and status; nothing while they cannot be read.
    pub(crate) async fn seen(&self) -> Option<Vec<(TaskId, TaskStatus)>> {
        let tasks = self.manager.list(&alice()).await.ok()?;
        Some(tasks.into_iter().map(|task| (task.id, task.status)).collect())
    }

    /// Waits until the tasks of alice are these, here.
    pub(crate) async fn shows(&self, expected: &[(TaskId, TaskStatus)]) {
        let mut last = None;
        let met = tokio::time::timeout(crate::world::PATIENCE, async {
            loop {
                last = self.seen().await.or(last.take());
                if last.as_deref() == Some(expected) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let met = met.await;
        assert!(met.is_ok(), "expected {expected:#?}, shown are {last:#?}");
    }

    /// Waits until so many tasks of this process have ended and wait for the bus.
    pub(crate) async fn ends_wait(&self, count: usize) {
        until("they have ended here", async || self.health().waiting_results == count).await;
    }

    pub(crate) fn health(&self) -> TaskManagerHealth {
        self.manager.health()
    }

    pub(crate) async fn is_well(&self) {
        until("all is written", async || self.health().is_well() && self.health().waiting_results == 0).await;
        assert_eq!(self.health().waiting_since, None);
    }

    /// Asks the REST view, as alice.
    pub(crate) async fn request(&self, path: &str) -> Response<Body> {
        let router = BackgroundTasks::new(self.manager.clone()).router();
        let request = Request::get(path).header("X-User-ID", "alice").body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    /// What is in the inbox of the session by now, and how many wakeups are queued. Takes both.
    pub(crate) async fn delivered(&self) -> (Vec<String>, usize) {
        let hints = self.bus.drain(&keys::inbox("s1"), usize::MAX).await.unwrap();
        let wakeups = self.bus.drain(keys::WAKEUPS, usize::MAX).await.unwrap();
        (hints.into_iter().map(|entry| entry.payload).collect(), wakeups.len())
    }

    pub(crate) async fn stop(
        &self,
        id: TaskId,
    ) -> tower_offload::bus::Result<tower_offload::manager::StopOutcome> {
        self.manager.stop(&alice(), id).await
    }

    /// The status of one task as this process shows it.
    pub(crate) async fn status(&self, id: TaskId) -> Option<TaskStatus> {
        let scope: Scope = alice();
        self.manager.get(&scope, id).await.ok().flatten().map(|task| task.status)
    }
}

/// A call of alice's.
pub(crate) fn call() -> ToolCall {
    ToolCall::new("Work", "{}").with_id("call").with_user("alice").with_session("s1").with_agent("agent")
}

pub(crate) async fn json(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

pub(crate) fn header_of(response: &Response<Body>, name: header::HeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// How often each of the tasks is told of.
pub(crate) fn told(hints: &[String], id: TaskId) -> usize {
    let id = id.to_string();
    hints.iter().filter(|hint| hint.contains(&id)).count()
}
