//! How often one offloaded call, alone, goes to the server.

use std::time::{Duration, Instant};

use tower::ServiceExt;

use super::process::{Process, TIMEOUT, call};
use super::redis_server::RedisServer;
use super::server::{Counters, bare};
use super::tap::Tap;
use crate::report::{Report, time};

const CALLS: usize = 20;

pub(crate) async fn measure(report: &mut Report) {
    let server = RedisServer::start();
    let tap = Tap::on(server.port()).await;
    let process = Process::start(&tap.url()).await;
    let mut counting = bare(&server.url()).await;
    tap.take();

    foreground(report, &process, &mut counting).await;
    one_by_one(report, &process, &mut counting, &tap).await;
    silent_server(report, &process, &server).await;
    heartbeat(report, &server.url()).await;
}

async fn foreground(
    report: &mut Report,
    process: &Process,
    counting: &mut redis::aio::MultiplexedConnection,
) {
    let (before, trips) = (Counters::read(counting).await, process.round_trips());
    for number in 0..CALLS {
        let Ok(_answer) = process.tool().oneshot(call("alice", "session", number)).await;
    }
    // Whatever it might have started.
    tokio::time::sleep(Duration::from_millis(50)).await;
    report.count("fast calls: round trips of 20", process.round_trips() - trips, 0);
    let reads = Counters::read(counting).await.reads_since(&before);
    report.count("fast calls: reads of the server for 20", reads, 0);
}

/// Each call ends before the next one begins. The numbers are those of the worst one.
async fn one_by_one(
    report: &mut Report,
    process: &Process,
    counting: &mut redis::aio::MultiplexedConnection,
    tap: &Tap,
) {
    let mut worst = [0; 4];
    let mut shown = [String::new(), String::new()];
    for number in 0..CALLS {
        let (before, trips) = (Counters::read(counting).await, process.round_trips());
        process.close();
        let Ok(_placeholder) = process.tool().oneshot(call("alice", "session", number)).await;
        process.written().await;
        let (begun, registering) = (Counters::read(counting).await, process.round_trips() - trips);
        let said = [tap.take(), {
            process.open();
            process.settled().await;
            tap.take()
        }];
        let ended = Counters::read(counting).await;
        let ending = process.round_trips() - trips - registering;
        let now = [registering, begun.reads_since(&before), ending, ended.reads_since(&begun)];
        for (worst, now) in worst.iter_mut().zip(now) {
            *worst = (*worst).max(now);
        }
        let ran = [begun.calls_since(&before), ended.calls_since(&begun)];
        for (shown, (said, ran)) in shown.iter_mut().zip(said.iter().zip(ran)) {
            let said: Vec<_> = said.iter().map(|command| String::from_utf8_lossy(&command[0])).collect();
            let ran: Vec<_> = ran
                .iter()
                .filter(|(name, _)| *name != "evalsha")
                .map(|(name, calls)| format!("{calls} {name}"))
                .collect();
            *shown = format!("{}; run by these: {}", said.join(" "), ran.join(", "));
        }
    }
    report.count("offload, registering: round trips", worst[0], 2);
    report.count("offload, registering: reads of the server", worst[1], 2);
    report.count("offload, ending and delivery: round trips", worst[2], 2);
    report.count("offload, ending and delivery: reads of the server", worst[3], 2);
    report.note("commands sent, registering", &shown[0]);
    report.note("commands sent, ending and delivery", &shown[1]);
}

/// The server does nothing, and the caller has its placeholder all the same.
async fn silent_server(report: &mut Report, process: &Process, server: &RedisServer) {
    process.close();
    server.pause();
    let begun = Instant::now();
    let answered =
        tokio::time::timeout(Duration::from_secs(2), process.tool().oneshot(call("alice", "session", 0)))
            .await;
    let took = begun.elapsed();
    server.resume();
    process.open();
    process.settled().await;
    report.count("placeholder: answers of the server it needs", u64::from(answered.is_err()), 0);
    let what = format!("placeholder while the server is stopped, beyond the timeout of {}", time(TIMEOUT));
    report.fact(what, time(took.saturating_sub(TIMEOUT)));
}

/// What the keeper does beside all this, with one task that runs.
async fn heartbeat(report: &mut Report, url: &str) {
    let lease = Duration::from_millis(600);
    let process = Process::with_lease(url, lease).await;
    process.close();
    let Ok(_placeholder) = process.tool().oneshot(call("bob", "session", 0)).await;
    process.written().await;
    let trips = process.round_trips();
    tokio::time::sleep(lease * 3).await;
    let trips = process.round_trips() - trips;
    process.open();
    process.settled().await;
    report.fact("heartbeat: round trips in 3 leases (9 renewals, 3 looks)", trips.to_string());
}
