//! The client who leaves, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tower_offload::http::HttpOffloadLayer;
use tower_offload::manager::TaskChange;
use tower_offload::offload::OnDisconnect;
use tower_offload::task::Scope;
use tower_offload::{TaskManager, TaskStatus};

use crate::support::{OnDrop, ended, on_drop, send, serve, tasks, within};

const REQUEST: &str = "GET /slow HTTP/1.1\r\nhost: localhost\r\nx-user-id: alice\r\n\r\n";

/// A handler that says when it starts, works until it is released, and says when it is gone.
struct Work {
    app: Router,
    started: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
    gone: oneshot::Receiver<()>,
}

fn work(layer: HttpOffloadLayer) -> Work {
    let (guard, gone) = on_drop();
    let guard: Arc<Mutex<Option<OnDrop>>> = Arc::new(Mutex::new(Some(guard)));
    let (start, started) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let handler = move || {
        let guard = guard.lock().unwrap().take();
        let released = Arc::clone(&released);
        let start = start.clone();
        async move {
            let _guard = guard;
            start.send(()).unwrap();
            released.notified().await;
            "the report"
        }
    };
    Work { app: Router::new().fallback(handler).layer(layer), started, release, gone }
}

#[tokio::test]
async fn before_the_deadline_it_cancels_the_work() {
    let manager = TaskManager::new();
    let mut work = work(tower_offload::http::layer(manager.clone(), Duration::MAX));
    let client = send(serve(work.app).await, REQUEST).await;
    within(work.started.recv()).await;
    assert!(work.gone.try_recv().is_err());
    drop(client);
    within(work.gone).await.unwrap();
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test]
async fn before_the_deadline_it_can_hand_the_work_over() {
    let manager = TaskManager::new();
    let layer = tower_offload::http::layer(manager.clone(), Duration::MAX);
    let mut work = work(layer.on_disconnect(OnDisconnect::HandOver));
    let mut changes = manager.subscribe(Scope::user("alice"));
    let client = send(serve(work.app).await, REQUEST).await;
    within(work.started.recv()).await;
    drop(client);
    let Some(TaskChange::Updated(task)) = within(changes.recv()).await else { panic!("no task") };
    assert_eq!(task.status, TaskStatus::Running);
    assert_eq!(task.meta.summary(), "GET /slow");
    assert!(work.gone.try_recv().is_err());
    work.release.notify_one();
    assert_eq!(within(ended(&manager)).await.status, TaskStatus::Completed);
}

#[tokio::test]
async fn after_the_deadline_the_work_lives_on() {
    let manager = TaskManager::new();
    let mut work = work(tower_offload::http::layer(manager.clone(), Duration::ZERO));
    let closing = REQUEST.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let mut client = send(serve(work.app).await, &closing).await;
    // To the end: the server has let go of the connection by then.
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    drop(client);
    assert!(work.gone.try_recv().is_err());
    assert_eq!(tasks(&manager, "alice").await[0].status, TaskStatus::Running);
    work.release.notify_one();
    assert_eq!(within(ended(&manager)).await.status, TaskStatus::Completed);
    within(work.gone).await.unwrap();
}
