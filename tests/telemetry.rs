//! The caller's span goes along with the work, and events name the task.
//!
//! A process of its own: whether an event is wanted is remembered for all threads, and other tests want none.

#[path = "support/flaky_bus.rs"]
mod flaky_bus;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::keys;
use tower_offload::manager::{BoxError, Ended};
use tower_offload::{CancelDispatcher, OffloadLayer, TaskManager, TaskRecord};
use tracing::field::{Field, Visit};
use tracing::{Event, Instrument, Subscriber, info_span};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{SECOND, alice, meta, only, run_ready, secs};

type Fields = BTreeMap<&'static str, String>;

/// Keeps each event's fields, and the name of the span that it is in.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Fields>>>);

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        if let Some(span) = context.event_span(event) {
            fields.insert("span", span.name().to_owned());
        }
        self.0.lock().unwrap().push(fields);
    }
}

impl Events {
    fn with(&self, message: &str) -> Vec<Fields> {
        let events = self.0.lock().unwrap();
        events.iter().filter(|fields| fields.get("message").is_some_and(|m| m == message)).cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_follows_and_every_step_names_the_task() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let manager = TaskManager::builder().max_running(1).build();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        tracing::info!("still at it");
        std::future::pending::<Result<(), Infallible>>().await
    }));
    service.clone().oneshot(()).instrument(info_span!("request")).await.unwrap();
    let refused = tokio::time::timeout(secs(6), service.oneshot(()));
    assert!(refused.await.is_err());
    let task = only(&manager).await;
    manager.stop(&alice(), task.id).await.unwrap();
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    run_ready().await;

    let id = task.id.to_string();
    let in_span = |message| {
        let found = events.with(message);
        found.into_iter().find(|fields| fields.get("span").is_some_and(|span| span == "request")).unwrap()
    };
    in_span("still at it");
    assert_eq!(in_span("call moved to the background")["task_id"], id);
    let ended = in_span("background task ended");
    assert_eq!((&*ended["task_id"], &*ended["status"]), (&*id, "\"cancelled\""));
    assert_eq!(events.with("background task asked to stop")[0]["task_id"], id);
    assert_eq!(events.with("background task refused")[0]["reason"], "too many background tasks are running");
}

#[tokio::test(start_paused = true)]
async fn the_span_follows_a_caller_who_leaves() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), secs(10))
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .on_disconnect(tower_offload::offload::OnDisconnect::HandOver);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        tracing::info!("all alone");
        Ok::<_, Infallible>(())
    }));
    // The span is entered while the call is polled, and not while it is dropped.
    let span = info_span!("request");
    let mut call = Box::pin(service.oneshot(()));
    let polled = futures_util::future::poll_fn(|cx| span.in_scope(|| call.as_mut().poll(cx)));
    assert!(tokio::time::timeout(SECOND, polled).await.is_err());
    drop(call);
    let task = only(&manager).await;
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    for message in ["all alone", "background task ended"] {
        assert_eq!(events.with(message)[0].get("span").map(String::as_str), Some("request"), "{message}");
    }
}

/// Whatever fails: no line has the secret in it.
#[tokio::test(start_paused = true)]
async fn what_is_logged_of_errors_has_no_secrets() {
    const SECRET: &str = "cannot open postgres://app:hunter2@db\u{1b}[31m";
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let manager = TaskManager::new();
    for panics in [false, true] {
        let layer = OffloadLayer::new(manager.clone(), SECOND)
            .describe(|(): &()| Some(meta()))
            .respond(|_: &TaskRecord| ())
            .deliver(move |_: TaskRecord, _: Ended<Result<(), String>>| async move {
                assert!(!panics, "{SECRET}");
                Err::<(), BoxError>(SECRET.into())
            });
        let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| async move {
            tokio::time::sleep(secs(5)).await;
            assert!(!panics, "{SECRET}");
            Err::<(), _>(SECRET.to_owned())
        }));
        service.oneshot(()).await.unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    let shown = "cannot open postgres://[redacted]@db\\u{1b}[31m";
    let ended = events.with("background task ended");
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|fields| fields["error"].contains(shown)), "{ended:?}");
    let lost = events.with("result of a background task not delivered");
    assert_eq!(lost.len(), 2);
    assert!(lost.iter().all(|fields| fields["error"].contains(shown)), "{lost:?}");
    let all = format!("{:?}", events.0.lock().unwrap());
    assert!(!all.contains("hunter2"), "{all}");
}

/// A parser's error quotes its input, and anyone on the bus can send any input.
#[tokio::test(start_paused = true)]
async fn a_malformed_message_is_logged_on_one_short_line() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let manager = TaskManager::new();
    let _dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    run_ready().await;
    let text = format!("password=hunter2 \u{9b}31m{}", "x".repeat(1 << 20));
    let payload = serde_json::to_string(&text).unwrap();
    manager.bus().publish(keys::TASK_CANCEL, &payload).await.unwrap();
    run_ready().await;
    let error = &events.with("malformed message skipped")[0]["error"];
    assert!(error.contains("password=[redacted]") && !error.contains("hunter2"), "{error:.1000}");
    assert!(error.len() < 600 && !error.contains('\u{9b}'), "{error:.1000}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refused_calls_is_no_flood_of_lines() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let manager = TaskManager::builder().max_running(0).build();
    for _ in 0..1000 {
        assert!(manager.spawn(meta(), async {}).is_err());
    }
    let lines = events.with("background task refused");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["left_out"], "0");
    tokio::time::advance(secs(5)).await;
    assert!(manager.spawn(meta(), async {}).is_err());
    assert_eq!(events.with("background task refused")[1]["left_out"], "999");
    assert_eq!(manager.stats().refused, 1001);
}

#[tokio::test(start_paused = true)]
async fn the_end_that_is_logged_is_the_one_that_all_readers_see() {
    use tower_offload::bus::{MemoryBus, SharedBus};
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let bus = MemoryBus::builder().shared(true).build();
    let connection = flaky_bus::FlakyBus::on(bus.clone());
    let one = TaskManager::builder().bus(Arc::clone(&connection) as SharedBus).build();
    let other = TaskManager::builder().bus(Arc::new(bus)).build();
    let fenced = one.spawn(meta(), tokio::time::sleep(secs(10))).unwrap();
    run_ready().await;
    connection.disconnect();
    tokio::time::sleep(secs(20)).await;
    assert_eq!(events.with("background task ended").len(), 0, "nobody can see an end");
    other.list(&alice()).await.unwrap();
    connection.reconnect();
    let ended = one.wait(&alice(), fenced.id).await.unwrap().unwrap();
    assert_eq!(ended.status, tower_offload::TaskStatus::Failed);
    let published = one.spawn(meta(), async {}).unwrap();
    one.wait(&alice(), published.id).await.unwrap().unwrap();

    let logged: Vec<_> = events.with("background task ended");
    let logged: Vec<_> = logged.iter().map(|fields| (&*fields["task_id"], &*fields["status"])).collect();
    let (fenced, published) = (fenced.id.to_string(), published.id.to_string());
    assert_eq!(logged, [(&*fenced, "\"failed\""), (&*published, "\"completed\"")]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_keeps_no_lost_lock_secret() {
    use tower_offload::bus::{LeaseOptions, LockExt, MemoryBus, SharedBus};
    struct Panics;
    impl<S: Subscriber> tracing_subscriber::Layer<S> for Panics {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            assert!(!event.metadata().target().starts_with("tower_offload"), "a subscriber that panics");
        }
    }
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(Panics));
    let connection = flaky_bus::FlakyBus::on(MemoryBus::new());
    let bus: SharedBus = connection.clone();
    let lease = bus.lock("lock", LeaseOptions::new().ttl(secs(3))).await.unwrap();
    connection.disconnect();
    tokio::time::timeout(secs(60), lease.lost()).await.expect("its holder is told");
    assert!(lease.is_lost());
}
