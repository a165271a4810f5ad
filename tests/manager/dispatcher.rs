//! What comes over the bus: cancels and interrupts, from peers who may write anything.

use std::panic::panic_any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_offload::bus::{self, SharedBus, keys};
use tower_offload::manager::StopOutcome;
use tower_offload::{CancelDispatcher, TaskManager, TaskMeta, TaskRecord, TaskStatus};

use crate::flaky_bus::FlakyBus;
use crate::patience::PATIENCE;
use crate::support::{alice, list, meta, only, run_ready, secs};

fn forever(manager: &TaskManager, meta: TaskMeta) -> TaskRecord {
    manager.spawn(meta, std::future::pending::<()>()).unwrap()
}

async fn publish(manager: &TaskManager, channel: &str, payload: &str) {
    manager.bus().publish(channel, payload).await.unwrap();
    run_ready().await;
}

async fn running(manager: &TaskManager) -> usize {
    run_ready().await;
    manager.stats().running
}

#[tokio::test(start_paused = true)]
async fn a_bare_id_as_agentscope_sends_it_stops_the_task() {
    let manager = TaskManager::new();
    let _dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    let (stopped, other) = (forever(&manager, meta()), forever(&manager, meta()));
    publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}"}}"#, stopped.id)).await;
    let tasks = list(&manager, &alice()).await;
    assert_eq!(tasks[0].status, TaskStatus::Cancelled);
    assert_eq!((tasks[1].id, tasks[1].status), (other.id, TaskStatus::Running));
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_the_sender_adds_is_checked() {
    let manager = TaskManager::new();
    let _dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    let task = forever(&manager, meta());
    for scope in [r#""session_id": "s2""#, r#""user_id": "bob""#, r#""session_id": "s1", "user_id": "bob""#] {
        publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}", {scope}}}"#, task.id)).await;
    }
    publish(&manager, keys::SESSION_CANCEL, r#"{"session_id": "s1", "user_id": "bob"}"#).await;
    assert_eq!(only(&manager).await.cancel_requested_at, None);
    let right = r#""session_id": "s1", "user_id": "alice", "more": [1]"#;
    publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}", {right}}}"#, task.id)).await;
    assert_eq!(only(&manager).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_session_cancel_stops_the_session_and_an_interrupt_stops_no_task() {
    let manager = TaskManager::new();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = |what: &'static str| {
        let seen = Arc::clone(&seen);
        move |signal: &bus::message::SessionSignal| {
            seen.lock().unwrap().push(format!("{what} {}", signal.session_id));
        }
    };
    let _dispatcher = CancelDispatcher::builder(&manager)
        .on_session_cancel(note("cancel"))
        .on_interrupt(note("interrupt"))
        .start()
        .await
        .unwrap();
    forever(&manager, meta());
    forever(&manager, meta());
    forever(&manager, TaskMeta::new("alice", "work").with_session("s2"));
    publish(&manager, keys::SESSION_INTERRUPT, r#"{"session_id": "s1"}"#).await;
    assert_eq!(running(&manager).await, 3, "background tasks live on");
    publish(&manager, keys::SESSION_CANCEL, r#"{"session_id": "s1"}"#).await;
    assert_eq!(running(&manager).await, 1);
    assert_eq!(*seen.lock().unwrap(), ["interrupt s1", "cancel s1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_malformed_ends_the_listening() {
    let manager = TaskManager::new();
    let _dispatcher = CancelDispatcher::builder(&manager)
        .on_interrupt(|_| panic!("a hook of the host"))
        .start()
        .await
        .unwrap();
    let task = forever(&manager, meta());
    let deep = "[".repeat(100_000);
    let malformed =
        ["", "x", "null", "[1]", "7", "{}", r#"{"task_id": 7}"#, r#"{"task_id": null}"#, "{", &deep];
    for channel in [keys::TASK_CANCEL, keys::SESSION_CANCEL, keys::SESSION_INTERRUPT] {
        for payload in malformed {
            publish(&manager, channel, payload).await;
        }
        publish(&manager, channel, r#"{"session_id": "", "task_id": "\ud83d\ude00"}"#).await;
    }
    assert_eq!(running(&manager).await, 1);
    publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}"}}"#, task.id)).await;
    assert_eq!(only(&manager).await.status, TaskStatus::Cancelled, "it still listens");
}

/// A payload that panics when it is dropped, with such a payload again.
struct Hostile;

impl Drop for Hostile {
    fn drop(&mut self) {
        panic_any(Self);
    }
}

/// A subscriber that panics at each event.
struct Panics;

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().target().ends_with("manager::cancel") {
            panic_any(Hostile);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn no_panic_ends_the_listening() {
    let bus = FlakyBus::new([]);
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    let _dispatcher = CancelDispatcher::builder(&manager)
        .on_session_cancel(|_| panic_any(Hostile))
        .on_interrupt(|_| panic_any(Hostile))
        .start()
        .await
        .unwrap();
    let task = forever(&manager, meta().with_session("s2"));
    let _subscriber = tracing::subscriber::set_default(Panics);
    for channel in [keys::SESSION_CANCEL, keys::SESSION_INTERRUPT] {
        publish(&manager, channel, r#"{"session_id": "s1"}"#).await;
        publish(&manager, channel, "malformed").await;
        publish(&manager, channel, r#"{"session_id": ""}"#).await;
    }
    bus.cut_subscriptions();
    bus.fail_next(2);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(bus.subscriptions(), 1, "it listens again");
    publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}"}}"#, task.id)).await;
    assert_eq!(only(&manager).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_signal_without_a_session_stops_nothing_and_calls_no_hook() {
    let manager = TaskManager::new();
    let calls = Arc::new(Mutex::new(0));
    let count = || {
        let calls = Arc::clone(&calls);
        move |_: &bus::message::SessionSignal| *calls.lock().unwrap() += 1
    };
    let _dispatcher = CancelDispatcher::builder(&manager)
        .on_session_cancel(count())
        .on_interrupt(count())
        .start()
        .await
        .unwrap();
    forever(&manager, TaskMeta::new("alice", "work"));
    for channel in [keys::SESSION_CANCEL, keys::SESSION_INTERRUPT] {
        for user in ["", r#", "user_id": """#] {
            publish(&manager, channel, &format!(r#"{{"session_id": ""{user}}}"#)).await;
        }
    }
    assert_eq!((running(&manager).await, *calls.lock().unwrap()), (1, 0));
    // Those of one user that have no session are nobody else's.
    publish(&manager, keys::SESSION_CANCEL, r#"{"session_id": "", "user_id": "alice"}"#).await;
    assert_eq!((running(&manager).await, *calls.lock().unwrap()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn dropping_it_ends_the_listening() {
    let manager = TaskManager::new();
    let dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    let task = forever(&manager, meta());
    drop(dispatcher);
    run_ready().await;
    publish(&manager, keys::TASK_CANCEL, &format!(r#"{{"task_id": "{}"}}"#, task.id)).await;
    assert_eq!(running(&manager).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_is_made_again() {
    let bus = FlakyBus::new([]);
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    let _dispatcher = CancelDispatcher::start(&manager).await.unwrap();
    let task = forever(&manager, meta());
    let cancel = format!(r#"{{"task_id": "{}"}}"#, task.id);
    bus.cut_subscriptions();
    bus.fail_next(5);
    run_ready().await;
    assert_eq!(bus.subscriptions(), 0);
    // The wait between attempts doubles, from a tenth of a second on.
    tokio::time::sleep(Duration::from_millis(100 * 31 + 10)).await;
    assert_eq!(bus.failures_left(), 0);
    assert_eq!(bus.subscriptions(), 0);
    tokio::time::sleep(Duration::from_millis(100 * 32 + 10)).await;
    assert_eq!(bus.subscriptions(), 1);
    publish(&manager, keys::TASK_CANCEL, &cancel).await;
    assert_eq!(only(&manager).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_away_is_an_error_at_the_start() {
    let bus = Arc::new(FlakyBus::default());
    bus.fail_next(1);
    let manager = TaskManager::builder().bus(bus).build();
    let error = CancelDispatcher::start(&manager).await.unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not subscribe");
}

#[tokio::test(start_paused = true)]
async fn losing_the_bus_costs_no_task_and_no_local_stop() {
    let bus = Arc::new(FlakyBus::default());
    bus.fail_next(usize::MAX);
    let manager = TaskManager::builder().bus(Arc::clone(&bus) as SharedBus).build();
    let task = forever(&manager, meta());
    let done = manager.spawn(meta(), tokio::time::sleep(secs(1))).unwrap();
    let found = manager.stop(&alice(), task.id).await.unwrap();
    assert_eq!(found, StopOutcome::Requested);
    tokio::time::sleep(secs(2)).await;
    // Both have ended here, and no reader is told so before other processes can see it.
    assert_eq!((manager.health().waiting_records, manager.stats().running), (2, 2));
    // A task that is not here may be elsewhere, and that cannot be found out.
    let elsewhere = manager.stop_foreign(&alice().in_session("s1"), "elsewhere").await;
    assert!(elsewhere.is_err());

    bus.reconnect();
    assert_eq!(manager.wait(&alice(), done.id).await.unwrap().unwrap().status, TaskStatus::Completed);
    assert_eq!(manager.wait(&alice(), task.id).await.unwrap().unwrap().status, TaskStatus::Cancelled);
}

/// The runtime that carries the listening ends, and another one that the manager was used on takes over.
#[test]
fn it_listens_on_another_runtime_when_its_own_ends() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let manager = TaskManager::new();
    let task = second.block_on(async { forever(&manager, meta()) });
    let dispatcher = first.block_on(CancelDispatcher::start(&manager)).unwrap();
    drop(first);
    second.block_on(async {
        let cancel = format!(r#"{{"task_id": "{}"}}"#, task.id);
        manager.bus().publish(keys::TASK_CANCEL, &cancel).await.unwrap();
        let ended = manager.wait(&alice(), task.id).await.unwrap().unwrap();
        assert_eq!(ended.status, TaskStatus::Cancelled);
    });
    drop(dispatcher);
}

#[test]
fn a_cancel_that_waits_when_a_runtime_ends_is_heard() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ends, stays) = (runtime(), runtime());
    let manager = TaskManager::new();
    let task = stays.block_on(async { forever(&manager, meta()) });
    let _dispatcher = ends.block_on(async {
        let dispatcher = CancelDispatcher::start(&manager).await.unwrap();
        // It waits for messages.
        run_ready().await;
        dispatcher
    });
    let cancel = format!(r#"{{"task_id": "{}"}}"#, task.id);
    stays.block_on(manager.bus().publish(keys::TASK_CANCEL, &cancel)).unwrap();
    drop(ends);
    let scope = alice();
    let waiting = async { tokio::time::timeout(PATIENCE, manager.wait(&scope, task.id)).await };
    let ended = stays.block_on(waiting).unwrap().unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Cancelled);
}
