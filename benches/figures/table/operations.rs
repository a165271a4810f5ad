//! What is done with a crowd, so many times.

use std::future::{pending, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tower_offload::TaskMeta;
use tower_offload::manager::StopOutcome;
use tower_offload::task::Scope;

use super::crowd::{ALICE, Crowd, LISTED, SESSION};
use crate::measure::runtime::TURN;

/// Tasks that are stopped together.
const BATCH: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Register,
    Get,
    List,
    Session,
    Stop,
    Cancel,
}

impl Operation {
    pub(super) const ALL: [Self; 6] =
        [Self::Register, Self::Get, Self::List, Self::Session, Self::Stop, Self::Cancel];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Get => "get",
            Self::List => "list",
            Self::Session => "session",
            Self::Stop => "stop",
            Self::Cancel => "cancel",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Register => "register and finish",
            Self::Get => "get",
            Self::List => "list of a user's 50",
            Self::Session => "list of a session's 50",
            Self::Stop => "stop",
            Self::Cancel => "stop_all of 10",
        }
    }

    /// How often it is done in a round.
    pub(super) const fn times(self) -> usize {
        match self {
            Self::Register => 5_000,
            Self::Get => 10_000,
            Self::List | Self::Session => 200,
            Self::Stop => 500,
            Self::Cancel => 50,
        }
    }

    /// Does it so many times, and answers how long that took. What prepares it is not in the time.
    pub(super) fn run(self, crowd: &Crowd, times: usize) -> Duration {
        match self {
            Self::Register => register(crowd, &crowd.runtime, times, 0),
            Self::Get => get(crowd, times),
            Self::List => list(crowd, &Scope::user(ALICE), times),
            Self::Session => {
                list(crowd, &Scope::user(Arc::clone(&crowd.users[0])).in_session(SESSION), times)
            }
            Self::Stop => stop(crowd, times),
            Self::Cancel => cancel(crowd, times),
        }
    }
}

/// From `first` on every other user is that of another thread.
pub(super) fn register(crowd: &Crowd, runtime: &Runtime, times: usize, first: usize) -> Duration {
    let begun = Instant::now();
    runtime.block_on(async {
        for number in 0..times {
            let user = &crowd.users[(first + 2 * number) % crowd.users.len()];
            let meta = TaskMeta::new(Arc::clone(user), Arc::clone(&crowd.tool));
            black_box(crowd.manager.spawn(meta, ready(())).is_ok());
            // The others run, and end.
            if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
    });
    begun.elapsed()
}

pub(super) fn get(crowd: &Crowd, times: usize) -> Duration {
    let begun = Instant::now();
    for (scope, id) in crowd.ids.iter().cycle().take(times) {
        black_box(crowd.manager.get(scope, *id).now_or_never().expect("it is one process").ok());
    }
    begun.elapsed()
}

fn list(crowd: &Crowd, scope: &Scope, times: usize) -> Duration {
    let begun = Instant::now();
    for _ in 0..times {
        let tasks = crowd.manager.list(scope).now_or_never().expect("it is one process");
        assert_eq!(black_box(tasks).expect("it is one process").len(), LISTED);
    }
    begun.elapsed()
}

fn stop(crowd: &Crowd, times: usize) -> Duration {
    in_batches(crowd, times / BATCH, || {
        let tasks: Vec<_> = (0..BATCH)
            .map(|number| {
                let user = &crowd.users[number * 7 % crowd.users.len()];
                let meta = TaskMeta::new(Arc::clone(user), Arc::clone(&crowd.tool));
                (Scope::user(Arc::clone(user)), crowd.spawn(meta, pending()))
            })
            .collect();
        move || {
            for (scope, id) in &tasks {
                let found = crowd.manager.stop(scope, *id).now_or_never().expect("it is one process");
                assert_eq!(found.expect("it is one process"), StopOutcome::Requested);
            }
        }
    })
}

/// Each in a session of its own: what has ended in a session is gone through too.
fn cancel(crowd: &Crowd, times: usize) -> Duration {
    let user = &crowd.users[0];
    in_batches(crowd, times, || {
        let session: Arc<str> = crowd.next().to_string().into();
        for _ in 0..BATCH {
            let meta = TaskMeta::new(Arc::clone(user), Arc::clone(&crowd.tool));
            crowd.spawn(meta.with_session(Arc::clone(&session)), pending());
        }
        let scope = Scope::user(Arc::clone(user)).in_session(session);
        move || {
            let asked = crowd.manager.stop_all(&scope).now_or_never().expect("it is one process");
            assert_eq!(asked.expect("it is one process"), BATCH);
        }
    })
}

/// Only what `prepare` answers is timed. Before it all tasks have begun, and after it all have ended.
fn in_batches<F: FnOnce()>(crowd: &Crowd, times: usize, prepare: impl Fn() -> F) -> Duration {
    let mut took = Duration::ZERO;
    crowd.runtime.block_on(async {
        for _ in 0..times {
            let running = crowd.manager.stats().running;
            let timed = prepare();
            tokio::task::yield_now().await;
            let begun = Instant::now();
            timed();
            took += begun.elapsed();
            while crowd.manager.stats().running > running {
                tokio::task::yield_now().await;
            }
        }
    });
    took
}
