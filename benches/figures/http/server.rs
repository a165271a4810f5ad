//! The two endpoints beside a handler that answers with bytes that it has.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};

use crate::measure::process::Thread;
use crate::measure::runtime::{TURN, current_thread};

/// Tasks of each user.
pub(super) const TASKS: usize = 50;

/// A manager with so many users with 50 tasks each, of which one is about to end and the others have ended.
pub(super) struct World {
    pub(super) manager: TaskManager,
    pub(super) users: Vec<Arc<str>>,
    runtime: tokio::runtime::Runtime,
    fixed: Arc<Mutex<Bytes>>,
}

impl World {
    pub(super) fn new(users: usize) -> Self {
        let manager = TaskManager::builder()
            .max_retained(u32::MAX / 2)
            .max_retained_per_user(TASKS as u32)
            .retain_for(None)
            .build();
        let users = (0..users).map(|user| format!("user-{user:05}").into()).collect();
        let world = Self { manager, users, runtime: current_thread(), fixed: Arc::default() };
        for _ in 0..TASKS {
            world.change(0..world.users.len());
        }
        world
    }

    /// A task of each of these users ends, and their oldest one is dropped.
    pub(super) fn change(&self, users: std::ops::Range<usize>) {
        self.runtime.block_on(async {
            for (number, user) in self.users[users].iter().enumerate() {
                let meta = TaskMeta::new(Arc::clone(user), "Bash")
                    .with_session("session-1")
                    .with_agent("agent-1")
                    .with_call_id("call_0123456789")
                    .with_summary("Bash(command=cargo test --workspace)");
                assert!(self.manager.spawn(meta, async {}).is_ok());
                if number % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            tokio::task::yield_now().await;
        });
    }

    pub(super) fn router(&self) -> Router {
        let fixed = Arc::clone(&self.fixed);
        let handler = move || {
            let bytes = fixed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { ([(CONTENT_TYPE, "application/json")], bytes) }
        };
        BackgroundTasks::new(self.manager.clone()).router().route("/fixed", get(handler))
    }

    /// What the fixed handler answers from now on.
    pub(super) fn fix(&self, bytes: Bytes) {
        *self.fixed.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    /// A server on a thread of its own, for as long as the program runs.
    pub(super) fn serve(&self) -> (SocketAddr, Thread) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("the option is there");
        let address = listener.local_addr().expect("it is bound");
        let router = self.router();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            tell.send(Thread::current()).expect("somebody waits for it");
            current_thread().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
                let listener =
                    listener.tap_io(|stream| stream.set_nodelay(true).expect("the option is there"));
                axum::serve(listener, router).await
            })
        });
        (address, told.recv().expect("the thread begins"))
    }

    pub(super) fn others(&self) -> usize {
        self.manager.stats().retained - TASKS
    }
}
