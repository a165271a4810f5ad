//! Stops from another process.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tower_offload::task::Scope;
use tower_offload::{CancelDispatcher, TaskId, TaskMeta};

use super::process::Process;
use super::redis_server::RedisServer;
use super::server::bare;
use crate::effort::Redis;
use crate::report::{Report, percentile, time};

/// Says when it is dropped.
struct Work(Option<oneshot::Sender<Instant>>);

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(gone) = self.0.take() {
            let _ = gone.send(Instant::now());
        }
    }
}

pub(crate) async fn measure(report: &mut Report, effort: &Redis) {
    let server = RedisServer::start();
    let (runner, other) = (Process::start(&server.url()).await, Process::start(&server.url()).await);
    let _dispatcher = CancelDispatcher::start(&runner.manager).await.expect("the server answers");
    let user = Scope::user("alice");

    let mut tasks = Vec::new();
    for _ in 0..effort.stops {
        let (gone, told) = oneshot::channel();
        let work = Work(Some(gone));
        let meta = TaskMeta::new("alice", "Bash").with_session("session").with_agent("agent-1");
        let work = async move {
            let _work = work;
            std::future::pending::<()>().await;
        };
        let task = runner.manager.spawn(meta, work).unwrap_or_else(|error| panic!("{error}"));
        tasks.push((task.id, told));
    }
    runner.written().await;

    let mut ping = bare(&server.url()).await;
    let mut trips = 0;
    let (mut pings, mut dropped, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for (id, told) in tasks {
        let begun = Instant::now();
        redis::cmd("PING").exec_async(&mut ping).await.expect("the server answers");
        pings.push(begun.elapsed());

        let before = other.round_trips();
        let begun = Instant::now();
        other.manager.stop(&user, id).await.expect("the stop can be asked for");
        trips = other.round_trips() - before;
        let gone = told.await.expect("the work is dropped");
        dropped.push(gone.saturating_duration_since(begun));
        while !is_cancelled(&other, &user, id).await {}
        seen.push(begun.elapsed());
    }
    let both = |times: &[Duration]| {
        let [p50, p99] = [50.0, 99.0].map(|percent| percentile(times.iter().copied(), percent));
        format!("p50 {}, p99 {}", time(p50), time(p99))
    };
    let stops = effort.stops;
    report.fact(format!("{stops} stops across processes: until the work is dropped"), both(&dropped));
    report.fact("  until the other process sees it as cancelled", both(&seen));
    report.fact("  a bare PING in between, to compare", both(&pings));
    report.fact("  round trips of the process that asks", trips.to_string());
}

async fn is_cancelled(process: &Process, user: &Scope, id: TaskId) -> bool {
    let task = process.manager.get(user, id).await.expect("the directory can be read");
    task.expect("the user has the task").status.is_terminal()
}
