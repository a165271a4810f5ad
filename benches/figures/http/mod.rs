//! The list of a user's 50 tasks over HTTP, against a handler that answers with the same bytes from memory.

mod client;
mod server;

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use http::Request;
use tower::ServiceExt;

use self::client::Client;
use self::server::{TASKS, World};
use crate::effort::Effort;
use crate::measure::runtime::current_thread;
use crate::measure::valgrind::{Counted, instructions};
use crate::report::{Report, Rounds, grouped};

/// Users that are asked for in one go; in between one task of each of them changes.
const ASKED: usize = 200;
/// Such goes in a round.
const GOES: usize = 5;

const COUNTS: [u64; 2] = [50, 250];
/// Users in a probe.
const FEW: usize = 20;

const BODY: usize = 64 << 10;

pub(crate) fn probe(name: &str, count: u64) -> bool {
    if !["fixed", "unchanged", "fresh", "change"].contains(&name) {
        return false;
    }
    let world = World::new(FEW);
    // As `axum::serve` does it.
    let router = world.router().with_state(());
    let runtime = current_thread();
    world.fix(body(&runtime, &router, list_request("user-00000")));
    for number in 0..count {
        let user = number as usize % FEW;
        if ["fresh", "change"].contains(&name) {
            world.change(user..user + 1);
        }
        let request = match name {
            "fixed" => Request::get("/fixed").header("x-user-id", "user-00000"),
            "unchanged" => list_request("user-00000"),
            "fresh" => list_request(&world.users[user]),
            _ => continue,
        };
        assert!(body(&runtime, &router, request).len() > 10_000);
    }
    true
}

fn list_request(user: &str) -> http::request::Builder {
    Request::get("/background-tasks").header("x-user-id", user)
}

fn body(runtime: &tokio::runtime::Runtime, router: &axum::Router, request: http::request::Builder) -> Bytes {
    runtime.block_on(async {
        let request = request.body(Body::empty()).expect("it is a request");
        let Ok(response) = router.clone().oneshot(request).await;
        to_bytes(response.into_body(), BODY).await.expect("the body is there")
    })
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    counts(report);
    if effort.counts_only {
        return;
    }
    for &others in effort.others {
        over_tcp(report, effort, others);
    }
}

fn counts(report: &mut Report) {
    let probes = ["fixed", "unchanged", "fresh", "change"];
    let probes = probes.map(|name| Counted::new(format!("http/{name}"), COUNTS));
    let instructions = instructions(&probes);
    let [fixed, unchanged, fresh, change] = *instructions else { return };
    let fixed = (fixed, "the same bytes from memory");
    // What is must not get lost; the goals are those of requests.
    report.against("in process, fresh: instructions of request and body", fresh - change, fixed, Some(9.5));
    report.against("in process, unchanged: instructions of request and body", unchanged, fixed, Some(1.3));
}

fn over_tcp(report: &mut Report, effort: &Effort, others: usize) {
    let world = World::new((others / TASKS).max(ASKED) + 1);
    let (address, server) = world.serve();
    let mut client = Client::connect(address);
    let request = |path: &str, user: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-user-id: {user}\r\n\r\n").into_bytes()
    };
    let users = &world.users[..ASKED];
    let list = |user: &str| request("/background-tasks", user);
    let lists: Vec<_> = users.iter().map(|user| list(user)).collect();
    // The others are as long as this one, but for the zeros at the end of a time.
    let body = client.body(&list(&users[0]));
    let bytes = grouped(body.len() as f64);
    world.fix(body.into());
    let fixed = vec![request("/fixed", &users[0]); ASKED];
    let same = vec![list(&users[0]); ASKED];

    // Fresh and unchanged; and of each, the time of the server's thread and that on the clock.
    let mut all = [const { [const { Rounds::new("the same bytes from memory") }; 2] }; 2];
    for round in 0..=effort.rounds {
        let mut times = [[Duration::ZERO; 2]; 3];
        for _ in 0..GOES {
            world.change(0..ASKED);
            for (times, requests) in times.iter_mut().zip([&fixed, &lists, &same]) {
                let before = server.cpu_time();
                let took = client.send(requests);
                times[0] += server.cpu_time() - before;
                times[1] += took;
            }
        }
        let [fixed, ours @ ..] = times;
        // The first round warms up.
        if round > 0 {
            for (all, ours) in all.iter_mut().zip(ours) {
                all.iter_mut()
                    .zip(ours.iter().zip(fixed))
                    .for_each(|(all, (ours, fixed))| all.push(*ours, fixed));
            }
        }
    }
    let others = grouped(world.others() as f64);
    let requests = (ASKED * GOES) as u64;
    for (what, [busy, clock]) in ["fresh", "unchanged"].into_iter().zip(&all) {
        let what = format!("list of 50 ({bytes} B), {what}, among {others} others: requests");
        report.rate(format!("{what}, of a busy server"), busy, requests);
        report.rate("  by the clock", clock, requests);
    }
}
