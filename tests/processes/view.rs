use std::time::Duration;

use tower_offload::bus::{MemoryBus, Registry, keys};
use tower_offload::task::{FailureReason, Outcome, Scope};
use tower_offload::{CancelDispatcher, TaskId, TaskManager, TaskMeta, TaskStatus};

use crate::support::{alice, bob, meta, run_ready, secs};
use crate::{Process, pass, two};

#[tokio::test(start_paused = true)]
async fn any_process_shows_all_tasks_of_a_user_in_one_order() {
    let (bus, one, other) = two();
    let third = Process::new(&bus);
    let mut ids = Vec::new();
    for number in 0..10 {
        let process = if number % 3 == 0 { &one } else { &other };
        ids.push(process.forever(meta()).id);
        one.forever(TaskMeta::new("bob", "work"));
        run_ready().await;
    }
    for process in [&one, &other, &third] {
        let list: Vec<_> = process.list(&alice()).await.into_iter().map(|task| task.id).collect();
        assert_eq!(list, ids);
        assert_eq!(process.list(&bob()).await.len(), 10);
        assert_eq!(process.list(&alice().in_session("s1")).await.len(), 10);
        assert_eq!(process.list(&alice().in_session("s2")).await.len(), 0);
        assert_eq!(process.list(&Scope::user("mallory")).await.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_the_same_wherever_it_is_read() {
    let (_bus, one, other) = two();
    let meta = || meta().with_agent("agent").with_call_id("call").with_summary("work(a=1)");
    let ended = one.manager.spawn(meta(), async { Outcome::failed("ü".repeat(600)) }).unwrap();
    let running = one.forever(meta());
    assert_eq!(one.list(&alice()).await[1], running, "before anything was written");
    run_ready().await;
    for task in [&ended, &running] {
        let (here, there) =
            (one.get(&alice(), task).await.unwrap(), other.get(&alice(), task).await.unwrap());
        assert_eq!(here, there);
        assert_eq!(here.meta, task.meta);
        for scope in [bob(), alice().in_session("s2")] {
            assert_eq!(other.get(&scope, task).await, None);
        }
    }
    let ended = other.get(&alice(), &ended).await.unwrap();
    assert_eq!((ended.status, ended.failure_reason), (TaskStatus::Failed, Some(FailureReason::Error)));
    assert_eq!(ended.error_summary.unwrap().chars().count(), 512);
    assert_eq!(other.manager.get(&alice(), TaskId::new()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_process_sees_its_own_changes_at_once() {
    let (_bus, one, _other) = two();
    for number in 1..=20 {
        let task = one.forever(meta());
        assert_eq!(one.list(&alice()).await.len(), number);
        assert_eq!(one.get(&alice(), &task).await.unwrap(), task);
        // Once with the task written before, and once not.
        if number % 2 == 0 {
            run_ready().await;
        }
        one.manager.stop(&alice(), task.id).await.unwrap();
        assert!(one.get(&alice(), &task).await.unwrap().cancel_requested_at.is_some());
        one.manager.wait(&alice(), task.id).await.unwrap();
        assert_eq!(one.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
        assert_eq!(one.list(&alice()).await.last().unwrap().status, TaskStatus::Cancelled);
    }
}

#[tokio::test(start_paused = true)]
async fn the_registry_of_a_session_has_its_tasks_while_they_live() {
    let (bus, one, _other) = two();
    let task = one.forever(meta().with_agent("agent"));
    run_ready().await;
    let listed = async || bus.get_all(&keys::background_tasks("s1")).await.unwrap();
    let entries = listed().await;
    assert_eq!((entries.len(), &entries[0].0), (1, &task.id.to_string()));
    // Two days: longer than an entry lives that nobody looks after.
    for _ in 0..200 {
        pass(secs(864)).await;
    }
    assert_eq!(listed().await, entries);
    assert_eq!(one.list(&alice()).await.len(), 1);
    one.manager.stop(&alice(), task.id).await.unwrap();
    run_ready().await;
    assert_eq!(listed().await, []);
}

#[tokio::test(start_paused = true)]
async fn retention_holds_across_processes() {
    let bus = MemoryBus::builder().shared(true).build();
    let process =
        || Process::with(&bus, TaskManager::builder().max_retained_per_user(3).retain_for(secs(60)));
    let (one, other) = (process(), process());
    let long = one.forever(meta());
    let mut ids = Vec::new();
    for number in 0..6 {
        let process = if number % 2 == 0 { &one } else { &other };
        ids.push(process.manager.spawn(meta(), async {}).unwrap().id);
        process.manager.spawn(TaskMeta::new("bob", "work"), async {}).unwrap();
        run_ready().await;
    }
    one.manager.stop(&alice(), long.id).await.unwrap();
    run_ready().await;
    for process in [&one, &other] {
        let list: Vec<_> = process.list(&alice()).await.into_iter().map(|task| task.id).collect();
        assert_eq!(list, [long.id, ids[4], ids[5]], "the end counts, not the beginning");
        assert_eq!(process.list(&bob()).await.len(), 3);
    }
}

#[tokio::test]
async fn what_ended_too_long_ago_is_not_shown_anywhere() {
    let bus = MemoryBus::builder().shared(true).build();
    let short = Process::with(&bus, TaskManager::builder().retain_for(Duration::from_millis(1)));
    let task = short.manager.spawn(meta(), async {}).unwrap();
    short.manager.wait(&alice(), task.id).await.unwrap();
    // Records have the time of the wall clock, which cannot be paused.
    let patience = std::time::Instant::now() + secs(10);
    while short.get(&alice(), &task).await.is_some() || !short.list(&alice()).await.is_empty() {
        assert!(std::time::Instant::now() < patience);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_task_of_another_process() {
    let (_bus, one, other) = two();
    let task = one.manager.spawn(meta(), tokio::time::sleep(secs(100))).unwrap();
    run_ready().await;
    let ended = other.manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Completed);
    assert_eq!(other.manager.wait(&bob(), task.id).await.unwrap(), None);
    assert_eq!(other.manager.result(&alice(), task.id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_scope_without_a_user_is_an_error_and_no_shorter_list() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    let scope = Scope::session("s1");
    let error = other.manager.list(&scope).await.unwrap_err();
    assert_eq!(error.to_string(), "message bus: could not read the tasks of a session of whatever user");
    assert!(other.manager.get(&scope, task.id).await.is_err());
    assert_eq!(one.get(&scope, &task).await.unwrap(), task, "its owner is sure");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_nothing_to_be_lost() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    let report = one.manager.shutdown(secs(1)).await;
    assert_eq!((report.cancelled, report.undelivered), (1, 0));
    let seen = other.get(&alice(), &task).await.unwrap();
    assert_eq!((seen.status, seen.failure_reason), (TaskStatus::Cancelled, Some(FailureReason::Shutdown)));
    pass(secs(100)).await;
    assert_eq!(one.list(&alice()).await, [seen]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_left_stays_away() {
    let (_bus, one, _other) = two();
    let _dispatcher = CancelDispatcher::start(&one.manager).await.unwrap();
    one.forever(meta());
    one.manager.shutdown(secs(1)).await;
    let writes = one.bus.calls("write");
    // Its dispatcher subscribes again.
    one.bus.cut_subscriptions();
    pass(secs(100)).await;
    assert_eq!((one.bus.subscriptions(), one.bus.calls("write")), (1, writes));
}
