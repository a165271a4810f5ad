//! A `tracing` subscriber that asks the manager at each event, as one that adds the health to its lines does.
//!
//! A process of its own: the subscriber is that of all threads.

#[path = "support/flaky_bus.rs"]
mod flaky_bus;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Mutex, OnceLock, mpsc};

use futures_util::FutureExt;
use tower::{Layer, ServiceExt, service_fn};
use tower_offload::bus::{MemoryBus, SharedBus};
use tower_offload::manager::{BoxError, Ended};
use tower_offload::{CancelDispatcher, OffloadLayer, TaskManager, TaskRecord};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::flaky_bus::FlakyBus;
use crate::patience::PATIENCE;
use crate::support::{SECOND, alice, meta, run_ready, secs};

static MANAGERS: OnceLock<[TaskManager; 2]> = OnceLock::new();
static MESSAGES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

struct Nosy;

struct Message(Option<String>);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Nosy {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(managers) =
            MANAGERS.get().filter(|_| event.metadata().target().starts_with("tower_offload"))
        else {
            return;
        };
        let mut message = Message(None);
        event.record(&mut message);
        MESSAGES.lock().unwrap().extend(message.0);
        for manager in managers {
            let _ = (manager.health(), manager.stats());
            // As far as it comes without waiting.
            let scope = alice();
            let _ = manager.list(&scope).now_or_never();
            let _ = manager.subscribe(alice());
        }
        // And it fails now and then.
        assert!(!event.metadata().level().eq(&tracing::Level::INFO), "a subscriber that panics");
    }
}

async fn every_event() {
    let bus = MemoryBus::builder().shared(true).build();
    let (one, two) = (FlakyBus::on(bus.clone()), FlakyBus::on(bus.clone()));
    let build = |bus: &std::sync::Arc<FlakyBus>| {
        TaskManager::builder().max_running(4).bus(std::sync::Arc::clone(bus) as SharedBus).build()
    };
    let (manager, other) = (build(&one), build(&two));
    assert!(MANAGERS.set([manager.clone(), other.clone()]).is_ok());
    let _dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &u64| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(|_: TaskRecord, _: Ended<Result<(), Infallible>>| async {
            Err::<(), BoxError>("away".into())
        });
    let service = layer.layer(service_fn(async |seconds| {
        tokio::time::sleep(secs(seconds)).await;
        Ok::<_, Infallible>(())
    }));
    service.clone().oneshot(3).await.unwrap();
    let stopped = manager.spawn(meta(), std::future::pending::<()>()).unwrap();
    manager.stop(&alice(), stopped.id).await.unwrap();
    tokio::time::sleep(secs(5)).await;

    // The bus goes away while tasks run and end, and the others take this process for dead.
    for seconds in [3, 1000] {
        service.clone().oneshot(seconds).await.unwrap();
    }
    run_ready().await;
    one.disconnect();
    tokio::time::sleep(secs(20)).await;
    other.list(&alice()).await.unwrap();
    for _ in 0..10 {
        let _ = manager.spawn(meta(), std::future::pending::<()>());
    }
    one.reconnect();
    tokio::time::sleep(secs(20)).await;
    one.disconnect();
    tokio::time::sleep(secs(5)).await;
    manager.shutdown(secs(1)).await;
    one.reconnect();
    tokio::time::sleep(secs(5)).await;
    manager.shutdown(secs(1)).await;
    assert_eq!(manager.stats().active, 0);
}

#[test]
fn it_may_ask_for_everything_at_every_event_and_panic() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Nosy)).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (done, wait) = mpsc::channel();
    // A thread of its own, because a deadlock has no other end.
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(every_event());
        done.send(()).unwrap();
    });
    let waited = wait.recv_timeout(PATIENCE);
    let messages = MESSAGES.lock().unwrap().clone();
    assert!(waited.is_ok(), "after {messages:#?}: deadlocked or panicked: {:?}", thread.is_finished());
    thread.join().unwrap();
    for message in [
        "call moved to the background",
        "background task asked to stop",
        "background task ended",
        "background task refused",
        "background task was taken for lost by another process",
        "background task lost with its process",
        "result of a background task not delivered",
        "the directory of tasks cannot be written; trying again",
        "the directory of tasks can be written again",
        "task manager shut down",
    ] {
        assert!(messages.contains(message), "{message}: {messages:#?}");
    }
}
