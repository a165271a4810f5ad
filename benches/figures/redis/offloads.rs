//! Many offloads at once, against the same commands from a bare client.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline};
use tower::ServiceExt;

use super::process::{Process, call};
use super::redis_server::RedisServer;
use super::server::bare;
use super::tap::{Command, Tap};
use crate::effort::Redis;
use crate::report::{Report, Rounds};

/// As the keeper has it: 256 tasks, each with its record and its place in the list of its session, and the lease.
const BATCH: usize = 2 * 256 + 1;
const USERS: usize = 100;

pub(crate) async fn measure(report: &mut Report, effort: &Redis) {
    let server = RedisServer::start();
    let mut connection = bare(&server.url()).await;
    let tasks = effort.offloads;

    let script = {
        let tap = Tap::on(server.port()).await;
        let process = Process::start(&tap.url()).await;
        tap.take();
        register(&process, tasks).await;
        let registering = tap.take();
        end(&process).await;
        [registering, tap.take()]
    };
    let names = |commands: &[Command]| {
        let mut names: Vec<_> = commands.iter().map(|command| command[0].as_slice()).collect();
        names.sort_unstable();
        let groups = names.chunk_by(|a, b| a == b);
        let groups =
            groups.map(|group| format!("{:.2} {}", group.len() as f64 / tasks as f64, text(group[0])));
        groups.collect::<Vec<_>>().join(", ")
    };
    let [registering, ending] = [names(&script[0]), names(&script[1])];
    report.note(format!("{tasks} at once, commands for each"), format!("{registering}; {ending}"));

    let mut all = Rounds::new("bare, pipelines one by one");
    let mut phases = [Rounds::new("bare"), Rounds::new("bare")];
    let mut flood = Rounds::new("bare, all pipelines at once");
    let mut trips = 0;
    for round in 0..=effort.rounds {
        let ours = {
            flush(&mut connection).await;
            let process = Process::start(&server.url()).await;
            let before = process.round_trips();
            let times = [register(&process, tasks).await, end(&process).await];
            trips = process.round_trips() - before;
            times
        };
        flush(&mut connection).await;
        let bare = [one_by_one(&connection, &script[0]).await, one_by_one(&connection, &script[1]).await];
        flush(&mut connection).await;
        let most = [at_once(&connection, &script[0]).await, at_once(&connection, &script[1]).await];
        // The first round warms up.
        if round > 0 {
            all.push(ours.iter().sum(), bare.iter().sum());
            flood.push(ours.iter().sum(), most.iter().sum());
            for (phase, times) in phases.iter_mut().zip(ours.iter().zip(bare)) {
                phase.push(*times.0, times.1);
            }
        }
    }
    report.fact(
        format!("{tasks} at once: round trips for each"),
        format!("{:.2}", trips as f64 / tasks as f64),
    );
    report.ratio(format!("{tasks} offloads at once, to the last delivery"), &all);
    report.ratio("  of that, to the last one registered", &phases[0]);
    report.ratio("  of that, from the first end to the last delivery", &phases[1]);
    report.ratio("  all of it again, against a server that is never idle", &flood);
}

/// From the first call to the last task in the directory.
async fn register(process: &Process, tasks: usize) -> Duration {
    process.close();
    let tool = process.tool();
    let sessions: Vec<_> =
        (0..USERS).map(|user| (format!("user-{user}"), format!("session-{user}"))).collect();
    let calls = (0..tasks).map(|number| {
        let (user, session) = &sessions[number % USERS];
        call(user, session, number)
    });
    let calls: Vec<_> = calls.collect();
    let begun = Instant::now();
    join_all(calls.into_iter().map(|call| tool.clone().oneshot(call))).await;
    process.written().await;
    begun.elapsed()
}

/// From the moment when all calls can answer to the last delivery.
async fn end(process: &Process) -> Duration {
    let begun = Instant::now();
    process.open();
    process.settled().await;
    begun.elapsed()
}

async fn one_by_one(connection: &MultiplexedConnection, commands: &[Command]) -> Duration {
    let begun = Instant::now();
    for batch in commands.chunks(BATCH) {
        send(connection.clone(), batch).await;
    }
    begun.elapsed()
}

async fn at_once(connection: &MultiplexedConnection, commands: &[Command]) -> Duration {
    let begun = Instant::now();
    join_all(commands.chunks(BATCH).map(|batch| send(connection.clone(), batch))).await;
    begun.elapsed()
}

async fn send(mut connection: MultiplexedConnection, batch: &[Command]) {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    for command in batch {
        // With its room at once, as the bus does it.
        let mut sent = Cmd::with_capacity(command.len(), command.iter().map(Vec::len).sum());
        for argument in command {
            sent.arg(argument.as_slice());
        }
        pipeline.add_command(sent);
    }
    let answers = connection.send_packed_commands(&pipeline, 0, batch.len()).await;
    assert_eq!(answers.expect("the server answers").len(), batch.len());
}

async fn flush(connection: &mut MultiplexedConnection) {
    redis::cmd("FLUSHALL").exec_async(connection).await.expect("the server can forget");
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("names are text")
}
