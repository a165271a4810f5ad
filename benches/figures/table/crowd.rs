//! A manager with many tasks.

use std::fmt;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Runtime;
use tower_offload::task::Scope;
use tower_offload::{TaskId, TaskManager, TaskMeta};

use crate::measure::runtime::{TURN, current_thread};

/// How many tasks the user has that is asked about.
pub(super) const LISTED: usize = 50;

/// Its name, and that of a session that one of the others has beside all of its tasks.
pub(super) const ALICE: &str = "alice";
pub(super) const SESSION: &str = "session";

const NO_LIMIT: u32 = u32::MAX / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Retained,
    Running,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) state: State,
    /// How many users the tasks belong to.
    pub(super) users: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.state == State::Retained { "retained" } else { "running" };
        match self.users {
            1 => write!(f, "{state}, of one user"),
            users => write!(f, "{state}, of {users} users"),
        }
    }
}

/// `alice` with 50 tasks that run, and others with many that run or have ended.
pub(super) struct Crowd {
    pub(super) manager: TaskManager,
    pub(super) runtime: Runtime,
    pub(super) tasks: usize,
    pub(super) users: Vec<Arc<str>>,
    pub(super) tool: Arc<str>,
    /// Some of the tasks, from everywhere.
    pub(super) ids: Vec<(Scope, TaskId)>,
    next: AtomicU64,
}

impl Crowd {
    /// Who has ended tasks has as many as may be kept, so that each new one drops one.
    pub(super) fn new(tasks: usize, shape: Shape) -> Self {
        let each = tasks / shape.users;
        let retained = if shape.state == State::Retained { each } else { LISTED };
        let manager = TaskManager::builder()
            .max_running(NO_LIMIT)
            .max_running_per_user(NO_LIMIT)
            .max_retained(NO_LIMIT)
            .max_retained_per_user(retained as u32)
            .retain_for(None)
            .build();
        let users = (0..shape.users).map(|user| format!("user-{user}").into()).collect();
        let mut crowd = Self {
            manager,
            runtime: current_thread(),
            tasks,
            users,
            tool: "Bash".into(),
            ids: Vec::new(),
            next: AtomicU64::new(0),
        };
        crowd.fill(shape.state);
        crowd
    }

    fn fill(&mut self, state: State) {
        let every = (self.tasks / 10_000).max(1);
        let mut ids = Vec::new();
        self.runtime.block_on(async {
            for number in 0..self.tasks {
                let user = &self.users[number % self.users.len()];
                let meta = TaskMeta::new(Arc::clone(user), Arc::clone(&self.tool));
                let task = match state {
                    State::Running => self.spawn(meta, pending()),
                    State::Retained => self.spawn(meta, ready(())),
                };
                if number % every == 0 {
                    ids.push((Scope::user(Arc::clone(user)), task));
                }
                if number % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            for _ in 0..LISTED {
                self.spawn(TaskMeta::new(ALICE, Arc::clone(&self.tool)), pending());
                let meta = TaskMeta::new(Arc::clone(&self.users[0]), Arc::clone(&self.tool));
                self.spawn(meta.with_session(SESSION), pending());
            }
            tokio::task::yield_now().await;
        });
        // Not in the order in which they were made.
        let half = ids.split_off(ids.len() / 2);
        self.ids = half.into_iter().zip(ids).flat_map(|(one, other)| [one, other]).collect();
    }

    /// A number that was not there before.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn spawn(&self, meta: TaskMeta, work: impl Future<Output = ()> + Send + 'static) -> TaskId {
        let task = self.manager.spawn(meta, work).unwrap_or_else(|error| panic!("{error}"));
        task.id
    }
}
