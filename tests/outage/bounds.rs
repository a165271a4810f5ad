//! What waits is bounded, counted, and told in the end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_offload::TaskStatus::{Cancelled, Completed};
use tower_offload::bus::{Delivery, MessageBus, Queue, keys};
use tower_offload::manager::BoxError;
use tower_offload::offload::{DeliverResult, Delivery as Ending};
use tower_offload::task::Scope;
use tower_offload::tool::{DeliverHint, ToolCall, ToolResponse};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta};

use crate::process::{TIMEOUT, call, told};
use crate::world::{Outage, PATIENCE, World, until};

/// A tool that goes on until the gate opens, and then answers this.
fn gated(
    answer: &str,
) -> (
    watch::Sender<bool>,
    impl Service<ToolCall, Response = ToolResponse, Error = Infallible, Future: Send> + Clone + Send + 'static,
) {
    let (open, gate) = watch::channel(false);
    let answer: Arc<str> = answer.into();
    let tool = service_fn(move |call: ToolCall| {
        let (mut gate, answer) = (gate.clone(), Arc::clone(&answer));
        async move {
            let _ = gate.wait_for(|open| *open).await;
            Ok::<_, Infallible>(ToolResponse::text(call.id(), &*answer))
        }
    });
    (open, tool)
}

/// Makes calls at the same time. If not all of them can go on in the background the gate opens.
async fn offload_many<S>(
    world: &World,
    service: S,
    calls: Vec<ToolCall>,
    gate: &watch::Sender<bool>,
) -> Vec<ToolResponse>
where
    S: Service<ToolCall, Response = ToolResponse, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let refused = world.one.manager.stats().refused;
    let count = calls.len();
    let answers = calls.into_iter().map(|call| service.clone().oneshot(call));
    let answers = tokio::spawn(join_all(answers));
    until("all are past their deadline", async || {
        let stats = world.one.manager.stats();
        (stats.refused - refused) as usize + stats.running >= count
    })
    .await;
    if world.one.manager.stats().refused > refused {
        gate.send_replace(true);
    }
    answers.await.unwrap().into_iter().map(|Ok(answer)| answer).collect()
}

/// Delivers hints one after the other: none has its room because another one has just left.
#[derive(Clone)]
struct OneByOne {
    hints: DeliverHint,
    turn: Arc<Mutex<()>>,
}

impl<Call> DeliverResult<Call, ToolResponse, Infallible> for OneByOne
where
    DeliverHint: DeliverResult<Call, ToolResponse, Infallible>,
{
    fn deliver(
        &self,
        ending: Ending<Call, ToolResponse, Infallible>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let delivery = self.hints.deliver(ending);
        async move {
            let _turn = self.turn.lock().await;
            delivery.await
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_waits_than_may_run() {
    let mut world = World::with(Outage::Stopped, || TaskManager::builder().max_running(10)).await;
    world.begin();
    let (gate, tool) = gated("done");
    let answers = offload_many(&world, world.one.layer.layer(tool), vec![call(); 30], &gate).await;
    let placeholders = answers.iter().filter(|answer| answer.metadata.contains_key("task_id")).count();
    let answered = answers.iter().filter(|answer| answer.content[0].as_text() == Some("done")).count();
    assert_eq!((placeholders, answered), (10, 20));
    world.one.ends_wait(10).await;
    assert_eq!(world.one.health().waiting_records, 10);
    assert_eq!(world.one.manager.stats().refused, 20);
    // What waits takes their place: a call stays in the foreground, and is answered.
    let tool = service_fn(async |call: ToolCall| {
        tokio::time::sleep(TIMEOUT * 2).await;
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "late"))
    });
    let answer = world.one.layer.layer(tool).oneshot(call()).await.unwrap();
    assert_eq!(answer.content[0].as_text(), Some("late"));
    assert_eq!(world.one.manager.stats().refused, 21);

    world.end();
    world.one.is_well().await;
    let (hints, wakeups) = world.other.delivered().await;
    assert_eq!((hints.len(), wakeups), (10, 10));
    let seen = world.other.seen().await.unwrap();
    assert!(
        seen.len() == 10 && seen.iter().all(|(id, status)| *status == Completed && told(&hints, *id) == 1)
    );
    world.one.offload().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_that_do_not_fit_are_dropped_and_counted() {
    let mut world = World::new(Outage::Stopped).await;
    let answer = "x".repeat(10_000);
    // Room for three, with what is around the answers.
    let hints = DeliverHint::new(Arc::new(world.one.bus.clone())).max_waiting_bytes(35_000);
    let hints = OneByOne { hints, turn: Arc::default() };
    let layer = OffloadLayer::for_tools(world.one.manager.clone(), TIMEOUT).deliver(hints);
    world.begin();
    let (gate, tool) = gated(&answer);
    offload_many(&world, layer.layer(tool), vec![call(); 10], &gate).await;
    gate.send_replace(true);
    world.one.ends_wait(10).await;

    world.end();
    world.one.is_well().await;
    assert_eq!(world.one.manager.stats().undelivered, 7);
    let (hints, wakeups) = world.other.delivered().await;
    assert_eq!((hints.len(), wakeups), (3, 3));
    // The records are all there.
    let seen = world.other.seen().await.unwrap();
    assert!(seen.len() == 10 && seen.iter().all(|(_, status)| *status == Completed));
}

/// The server makes the delivery, and its answer does not arrive: it is made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_answer_is_lost_is_repeated_without_harm() {
    let world = World::new(Outage::Stopped).await;
    // A manager that is alone writes nothing, so that the delivery is all that is under way.
    let manager = TaskManager::new();
    let hints = DeliverHint::new(Arc::new(world.one.bus.clone()));
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT).deliver(hints);
    let (gate, tool) = gated("done");
    layer.layer(tool).oneshot(call()).await.unwrap();
    // The scripts are known, and there is a connection.
    world.one.bus.deliver(&other_delivery()).await.unwrap();
    assert_eq!(world.other.delivered().await.1, 1);

    world.server.pause();
    let asked = world.one.bus.stats().round_trips;
    gate.send_replace(true);
    until("it is asked for", async || world.one.bus.stats().round_trips > asked).await;
    until("it is given up", async || !world.one.bus.stats().connected).await;
    assert_eq!(manager.health().waiting_results, 1);
    world.server.resume();
    until("it is repeated", async || manager.health().waiting_results == 0).await;
    let (hints, wakeups) = world.other.delivered().await;
    assert_eq!((hints.len(), wakeups, manager.stats().undelivered), (1, 1, 0));
}

fn other_delivery() -> Delivery {
    let meta = TaskMeta::new("alice", "work").with_session("s1");
    Delivery::new("another", &meta, r#"{"type": "hint", "hint": "another"}"#.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_ends_are_all_written() {
    const USERS: usize = 10;
    const EACH: usize = 500;
    let builder = || TaskManager::builder().max_retained_per_user(EACH as u32);
    let mut world = World::with(Outage::Stopped, builder).await;
    let calls = (0..USERS * EACH).map(|number| {
        let user = number % USERS;
        ToolCall::new("Work", "{}").with_user(format!("user {user}")).with_session(format!("session {user}"))
    });
    let (gate, tool) = gated("done");
    offload_many(&world, world.one.layer.layer(tool), calls.collect(), &gate).await;
    world.begin();
    gate.send_replace(true);
    world.one.ends_wait(USERS * EACH).await;
    assert_eq!(world.one.manager.stats().active, USERS * EACH);
    world.end();
    world.one.is_well().await;
    assert_eq!(world.one.manager.stats().undelivered, 0);
    for user in 0..USERS {
        let seen = world.other.manager.list(&Scope::user(format!("user {user}"))).await.unwrap();
        assert_eq!(seen.iter().filter(|task| task.status == Completed).count(), EACH);
        assert_eq!(world.other.bus.len(&keys::inbox(&format!("session {user}"))).await.unwrap(), EACH);
    }
    assert_eq!(world.other.bus.len(keys::WAKEUPS).await.unwrap(), USERS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_a_server_that_is_away() {
    for outage in [Outage::Stopped, Outage::Stalled] {
        let mut world = World::new(outage).await;
        let (ends, stops) = (world.one.offload().await, world.one.offload().await);
        world.one.is_well().await;
        world.begin();
        let (ends, stops) = (ends.end("done"), stops.id);
        world.one.ends_wait(1).await;
        // The server is away until the shutdown has ended.
        let shutdown = world.one.manager.shutdown(Duration::from_millis(300));
        let report = tokio::time::timeout(PATIENCE, shutdown).await.expect("it does not wait for the server");
        assert_eq!((report.cancelled, report.unsettled, report.undelivered), (0, 0, 2));
        // It goes on trying as long as the process lives.
        world.end();
        world.other.shows(&[(ends, Completed), (stops, Cancelled)]).await;
        world.one.is_well().await;
        let (hints, wakeups) = world.other.delivered().await;
        assert_eq!(
            (hints.len(), wakeups),
            (2, 2),
            "the second was stopped by the shutdown, and its session is told"
        );
    }
}
