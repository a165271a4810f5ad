//! Reading a user's tasks from another process, against the bytes alone, and among the tasks of others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tower::ServiceExt;
use tower_offload::TaskId;
use tower_offload::task::Scope;

use super::process::{Process, call};
use super::redis_server::RedisServer;
use super::server::bare;
use crate::effort::Redis;
use crate::report::{Report, Rounds, median};

const TASKS: usize = 50;
const OTHERS: usize = 1_000;
const OF_EACH_OTHER: usize = 5;

/// A server, the process that ran the tasks, and another one that reads them.
struct World {
    _server: RedisServer,
    _runner: Process,
    reader: Process,
    bare: MultiplexedConnection,
}

impl World {
    /// `alice` has tasks that have ended, and `bob` some that run.
    async fn new(others: usize) -> Self {
        let server = RedisServer::start();
        let runner = Process::start(&server.url()).await;
        let users = (0..others).flat_map(|user| {
            (0..OF_EACH_OTHER)
                .map(move |number| call(&format!("user-{user}"), &format!("session-{user}"), number))
        });
        let ended = (0..TASKS).map(|number| call("alice", "session", number)).chain(users);
        hand_over(&runner, ended).await;
        runner.open();
        runner.settled().await;
        hand_over(&runner, (0..TASKS).map(|number| call("bob", "session", number))).await;
        let reader = Process::start(&server.url()).await;
        let bare = bare(&server.url()).await;
        Self { _server: server, _runner: runner, reader, bare }
    }

    async fn list(&self, user: &str) -> Duration {
        let begun = Instant::now();
        let listed = self.reader.list(user).await;
        let took = begun.elapsed();
        assert_eq!(listed, TASKS);
        took
    }

    async fn get(&self, user: &Scope, id: TaskId) -> Duration {
        let begun = Instant::now();
        let found = self.reader.manager.get(user, id).await.expect("the directory can be read");
        let took = begun.elapsed();
        assert!(found.is_some());
        took
    }

    /// The same bytes as they come: nothing of them is looked at.
    async fn bytes(&self, user: &str) -> Duration {
        let mut connection = self.bare.clone();
        let begun = Instant::now();
        let mut all = redis::cmd("HGETALL");
        all.arg(format!("agentscope:offload:tasks:{user}"));
        let answer = connection.send_packed_command(&all).await.expect("the server answers");
        let took = begun.elapsed();
        assert!(matches!(answer, Value::Map(fields) if fields.len() >= 2 * TASKS));
        took
    }
}

async fn hand_over(runner: &Process, calls: impl Iterator<Item = tower_offload::ToolCall>) {
    runner.close();
    let tool = runner.tool();
    join_all(calls.map(|call| tool.clone().oneshot(call))).await;
    runner.written().await;
}

pub(crate) async fn measure(report: &mut Report, effort: &Redis) {
    let alone = World::new(0).await;
    for (user, what) in [("alice", "list of 50 tasks that have ended"), ("bob", "list of 50 that run")] {
        let mut rounds = Rounds::new("bare HGETALL");
        for round in 0..=effort.rounds {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..effort.reads {
                ours.push(alone.list(user).await);
                theirs.push(alone.bytes(user).await);
            }
            if round > 0 {
                rounds.push(median(ours.into_iter()), median(theirs.into_iter()));
            }
        }
        report.ratio(what, &rounds);
    }

    let crowd = World::new(OTHERS).await;
    let scope = Scope::user("alice");
    let mut lists = Rounds::new("alone");
    let mut gets = Rounds::new("alone");
    let mut ids = Vec::new();
    for world in [&crowd, &alone] {
        let tasks = world.reader.manager.list(&scope).await.expect("the directory can be read");
        ids.push(tasks[TASKS / 2].id);
    }
    for round in 0..=effort.rounds {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..effort.reads {
            times[0].push(crowd.list("alice").await);
            times[1].push(alone.list("alice").await);
            times[2].push(crowd.get(&scope, ids[0]).await);
            times[3].push(alone.get(&scope, ids[1]).await);
        }
        if round > 0 {
            let [a, b, c, d] = times.map(|times| median(times.into_iter()));
            lists.push(a, b);
            gets.push(c, d);
        }
    }
    report.ratio("list of 50 beside 1,000 other users with 5 tasks each", &lists);
    report.ratio("get of one task beside them", &gets);
}
