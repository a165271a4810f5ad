//! What the tests share.
#![allow(dead_code, reason = "each test crate uses some of it")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_offload::manager::{BoxError, Ended};
use tower_offload::task::Scope;
use tower_offload::{TaskManager, TaskMeta, TaskRecord};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn alice() -> Scope {
    Scope::user("alice")
}

pub(crate) fn bob() -> Scope {
    Scope::user("bob")
}

/// The tasks of a scope.
pub(crate) async fn list(manager: &TaskManager, scope: &Scope) -> Vec<TaskRecord> {
    manager.list(scope).await.unwrap()
}

/// The only task of alice.
pub(crate) async fn only(manager: &TaskManager) -> TaskRecord {
    let tasks = list(manager, &alice()).await;
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    tasks.into_iter().next().unwrap()
}

/// Lets everything that can go on go on, without letting time pass.
pub(crate) async fn run_ready() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Counts what is alive: each guard is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

pub(crate) struct AliveGuard(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn guard(&self) -> AliveGuard {
        self.0.fetch_add(1, Ordering::SeqCst);
        AliveGuard(Arc::clone(&self.0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for AliveGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A delivery hook that keeps what it gets.
pub(crate) struct Deliveries<T, E = Infallible>(Arc<Mutex<Vec<Delivered<T, E>>>>);

pub(crate) type Delivered<T, E> = (TaskRecord, Ended<Result<T, E>>);

impl<T, E> Clone for Deliveries<T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static, E: Send + 'static> Deliveries<T, E> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn hook(
        &self,
    ) -> impl Fn(TaskRecord, Ended<Result<T, E>>) -> std::future::Ready<Result<(), BoxError>>
    + Clone
    + Send
    + Sync
    + 'static {
        let this = self.clone();
        move |task, ended| {
            this.0.lock().unwrap().push((task, ended));
            std::future::ready(Ok(()))
        }
    }

    pub(crate) fn take(&self) -> Vec<Delivered<T, E>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The only delivery so far.
    pub(crate) fn one(&self) -> Delivered<T, E> {
        let mut all = self.take();
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    }
}

pub(crate) fn meta() -> TaskMeta {
    TaskMeta::new("alice", "work").with_session("s1")
}
