use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use tower::{Layer, ServiceExt};
use tower_offload::OffloadLayer;
use tower_offload::bus::{Directory, MemoryBus, OwnerLease, Registry, Retention, TaskWrite, keys};
use tower_offload::manager::TaskChange;
use tower_offload::task::FailureReason;
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{TaskId, TaskManager, TaskMeta, TaskRecord, TaskStatus};

use crate::support::{Alive, Deliveries, alice, bob, meta, run_ready, secs};
use crate::{Process, pass, two};

fn assert_lost(task: &TaskRecord) {
    assert_eq!((task.status, task.failure_reason), (TaskStatus::Failed, Some(FailureReason::WorkerLost)));
    assert_eq!(task.error_summary.as_deref(), Some("the process that ran the task is gone"));
    assert!(task.completed_at.unwrap() >= task.started_at);
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_a_dead_process_are_lost_within_its_lease() {
    let (bus, dead, other) = two();
    let third = Process::new(&bus);
    let ended = dead.manager.spawn(meta(), async {}).unwrap();
    let lost = dead.forever(meta());
    let lives = other.forever(meta());
    let of_bob = dead.forever(TaskMeta::new("bob", "work"));
    pass(secs(60)).await;
    // Nothing that it does from here on arrives.
    dead.bus.disconnect();
    pass(secs(9)).await;
    assert_eq!(other.get(&alice(), &lost).await.unwrap().status, TaskStatus::Running, "the lease holds");
    pass(secs(6)).await;

    // At once, for whoever reads, and the same for all.
    let list = other.list(&alice()).await;
    assert_eq!(list.len(), 3);
    assert_eq!((list[0].id, list[0].status), (ended.id, TaskStatus::Completed));
    assert_lost(&list[1]);
    assert_eq!(list[2], lives);
    pass(secs(1)).await;
    assert_eq!(third.list(&alice()).await, list);
    assert_lost(&third.get(&bob(), &of_bob).await.unwrap());
    assert_eq!(other.get(&alice(), &lost).await.unwrap(), list[1]);
    let waited = third.manager.wait(&alice(), lost.id).await.unwrap().unwrap();
    assert_eq!(waited, list[1]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_back_to_life_overwrites_nothing() {
    let (bus, revived, other) = two();
    let alive = Alive::default();
    let guard = alive.guard();
    let (end, ending) = tokio::sync::oneshot::channel::<()>();
    let works = revived
        .manager
        .spawn(meta(), async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        })
        .unwrap();
    let ends = revived.manager.spawn(meta(), async { drop(ending.await) }).unwrap();
    run_ready().await;
    revived.bus.disconnect();
    pass(secs(16)).await;
    let seen = other.list(&alice()).await;
    seen.iter().for_each(assert_lost);
    // One ends by itself before the process can know what the others think of it. No reader is told of that end.
    let mut changes = revived.manager.subscribe(alice());
    let scope = alice();
    let waiting = revived.manager.wait(&scope, ends.id);
    end.send(()).unwrap();
    pass(secs(3)).await;
    assert_eq!(revived.manager.stats().completed, 0);
    assert_eq!(alive.count(), 1);

    revived.bus.reconnect();
    assert_eq!(waiting.await.unwrap().as_ref(), Some(&seen[1]));
    pass(secs(3)).await;
    for process in [&revived, &other] {
        assert_eq!(process.list(&alice()).await, seen);
        assert_eq!(process.get(&alice(), &works).await.as_ref(), Some(&seen[0]));
    }
    let mut told = Vec::new();
    while let Some(Some(change)) = changes.recv().now_or_never() {
        let TaskChange::Updated(record) = change else { panic!("{change:?}") };
        told.push(record);
    }
    told.sort_by_key(|record| record.id != works.id);
    assert_eq!(told, seen, "subscribers see the same single end");
    assert_eq!(alive.count(), 0, "what nobody waits for is stopped");
    assert_eq!(
        bus.get_all(&keys::background_tasks("s1")).await.unwrap(),
        [],
        "nor is it listed in its session"
    );
    let stats = revived.manager.stats();
    assert_eq!((stats.running, stats.late, stats.active), (0, 1, 0));
    assert_eq!((stats.completed, stats.failed), (0, 2));
    // New ones are as good as any.
    let new = revived.forever(meta());
    pass(secs(60)).await;
    assert_eq!(other.get(&alice(), &new).await.unwrap(), new);
}

#[tokio::test(start_paused = true)]
async fn a_process_learns_by_reading_that_it_was_taken_for_dead() {
    let (_bus, revived, other) = two();
    let task = revived.forever(meta());
    run_ready().await;
    revived.bus.disconnect();
    pass(secs(16)).await;
    let seen = other.list(&alice()).await;
    revived.bus.reconnect();
    assert_eq!(revived.list(&alice()).await, seen);
    assert_eq!(revived.manager.stop(&alice(), task.id).await.unwrap(), {
        tower_offload::manager::StopOutcome::AlreadyFinished(seen[0].clone())
    });
    // A shutdown waits until the work itself is gone.
    let stats = revived.manager.stats();
    assert_eq!((stats.running, stats.active), (0, 1));
    run_ready().await;
    assert_eq!(revived.manager.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_away_and_that_nobody_missed_goes_on() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    one.bus.disconnect();
    pass(secs(100)).await;
    one.bus.reconnect();
    pass(secs(3)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap(), task);
    pass(secs(100)).await;
    assert_eq!(other.list(&alice()).await, [task]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_task_is_shown_as_it_is_stored_when_its_end_cannot_be_written() {
    let (_bus, dead, other) = two();
    let task = dead.forever(meta());
    run_ready().await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    // Reading it succeeds, and what follows does not.
    other.bus.fail_after(1, 1);
    assert_eq!(other.get(&alice(), &task).await.unwrap(), task);
    assert_eq!(other.bus.failures_left(), 0);
    assert_lost(&other.get(&alice(), &task).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_finds_it_second_shows_what_the_first_one_wrote() {
    let (bus, dead, first) = two();
    let second = Process::new(&bus);
    let task = dead.forever(meta());
    run_ready().await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    second.bus.slow_next("write", secs(1));
    let reading = tokio::spawn({
        let manager = second.manager.clone();
        async move { manager.list(&alice()).await.unwrap() }
    });
    run_ready().await;
    let seen = first.list(&alice()).await;
    assert_lost(&seen[0]);
    assert_eq!(reading.await.unwrap(), seen);
    assert_eq!(second.get(&alice(), &task).await.as_ref(), Some(&seen[0]));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_its_own_process_does_not_know_is_lost() {
    let (bus, one, _other) = two();
    let known = one.forever(meta());
    run_ready().await;
    // A write of long ago that was held up on its way.
    let stored = bus.task("alice", known.id, secs(15)).await.unwrap().unwrap();
    let mut record = stored.record;
    record.id = TaskId::new();
    let lease = OwnerLease::new(stored.owner, secs(15));
    let retention = Retention::new(50, None);
    let late = TaskWrite::new(record.clone(), 1, lease.owner.clone());
    bus.write(&lease, &retention, &[late]).await.unwrap();
    assert_lost(&one.get(&alice(), &record).await.unwrap());
    assert_eq!(one.get(&alice(), &known).await.unwrap(), known);
}

#[tokio::test(start_paused = true)]
async fn those_who_find_a_task_lost_at_the_same_time_see_the_same() {
    let (_bus, dead, other) = two();
    dead.forever(meta());
    run_ready().await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    // It has read that the task runs, and repairs it when others have done so.
    other.bus.slow_next("answer with tasks", secs(1));
    let scope = alice();
    let late = other.list(&scope);
    let early = async {
        pass(Duration::from_millis(500)).await;
        other.list(&scope).await
    };
    let (late, early) = tokio::join!(late, early);
    assert_lost(&early[0]);
    assert_eq!(late, early);
    assert_eq!(other.list(&scope).await, early);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_while_it_is_read_is_not_lost() {
    let (bus, one, _other) = two();
    let layer = OffloadLayer::for_tools(one.manager.clone(), secs(1));
    let tool = tower::service_fn(|call: ToolCall| async move {
        tokio::time::sleep(secs(3)).await;
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "done"))
    });
    let call = ToolCall::new("Work", "{}").with_user("alice").with_session("s1");
    layer.layer(tool).oneshot(call).await.unwrap();
    run_ready().await;
    // It runs when it is read, and has ended by the time that the answer is there.
    one.bus.slow_next("answer with tasks", secs(10));
    let list = one.list(&alice()).await;
    assert_eq!(list[0].status, TaskStatus::Completed);
    pass(secs(10)).await;
    let (hints, _) = crate::delivered(&bus).await;
    assert!(hints.len() == 1 && hints[0].contains("has completed"), "{hints:?}");
}

#[tokio::test(start_paused = true)]
async fn what_runs_nowhere_is_lost_though_its_owner_lives() {
    let (_bus, one, other) = two();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let task = {
        let _entered = runtime.enter();
        one.forever(meta())
    };
    // Its runtime goes before it has polled anything, and nobody is left to write.
    std::thread::spawn(move || drop(runtime)).join().unwrap();
    // The next entry point that is on a runtime starts what writes.
    let lost = one.manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(lost.failure_reason, Some(FailureReason::WorkerLost));
    let seen = other.get(&alice(), &task).await.unwrap();
    assert_eq!((seen.status, seen.failure_reason), (TaskStatus::Failed, Some(FailureReason::WorkerLost)));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ended_here_is_not_lost_when_a_slow_read_meets_a_failed_write() {
    let (_bus, one, _other) = two();
    let task = one.manager.spawn(meta(), tokio::time::sleep(secs(3))).unwrap();
    run_ready().await;
    // It runs when the directory is read. By the time of the answer its end is written, and nothing can be written then.
    one.bus.slow_next("answer with tasks", secs(12));
    let scope = alice();
    let listing = one.manager.list(&scope);
    let outage = async {
        pass(secs(11)).await;
        one.bus.fail_after(1, usize::MAX);
    };
    let (list, ()) = tokio::join!(listing, outage);
    let list = list.unwrap();
    assert_eq!((list[0].id, list[0].status, list[0].failure_reason), (task.id, TaskStatus::Completed, None));
}

#[tokio::test(start_paused = true)]
async fn every_fenced_task_ends_however_slow_the_list_of_its_session_is() {
    let (_bus, revived, other) = two();
    for _ in 0..3 {
        revived.forever(meta());
    }
    run_ready().await;
    revived.bus.disconnect();
    pass(secs(16)).await;
    let seen = other.list(&alice()).await;
    revived.bus.slow_always("remove", Duration::MAX);
    revived.bus.reconnect();
    for lost in &seen {
        assert_lost(lost);
        let scope = alice();
        let waiting = revived.manager.wait(&scope, lost.id);
        assert_eq!(tokio::time::timeout(secs(30), waiting).await.unwrap().unwrap().as_ref(), Some(lost));
    }
    pass(secs(1)).await;
    assert_eq!(revived.manager.stats().active, 0);
    // The lease is renewed.
    let new = revived.forever(meta());
    pass(secs(60)).await;
    assert_eq!(other.get(&alice(), &new).await.unwrap(), new);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ended_and_was_dropped_during_a_slow_read_is_not_written_again() {
    let bus = MemoryBus::builder().shared(true).build();
    let one = Process::with(&bus, TaskManager::builder().max_retained_per_user(0));
    one.manager.spawn(meta(), tokio::time::sleep(secs(3))).unwrap();
    run_ready().await;
    // It runs when the directory is read. By the time of the answer its end is written, and its record is dropped.
    one.bus.slow_next("answer with tasks", secs(12));
    let list = one.list(&alice()).await;
    assert!(list.iter().all(|task| task.failure_reason.is_none()), "{list:?}");
    assert!(bus.tasks("alice", secs(15)).await.unwrap().is_empty());
    assert_eq!(one.list(&alice()).await, []);
    assert_eq!(one.manager.stats().completed, 1);
}

/// The tasks of this process are looked up before the directory is read. One that starts in between is none of those.
#[tokio::test(start_paused = true)]
async fn a_task_that_starts_during_a_slow_read_is_not_lost() {
    let (_bus, one, _other) = two();
    one.bus.slow_next("tasks", secs(5));
    let scope = alice();
    let (list, task) = tokio::join!(one.list(&scope), async {
        pass(secs(1)).await;
        one.forever(meta())
    });
    assert_eq!(list, std::slice::from_ref(&task));
    pass(secs(1)).await;
    assert_eq!(one.list(&scope).await, [task]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_started_and_was_dropped_during_a_slow_read_is_not_written_again() {
    let bus = MemoryBus::builder().shared(true).build();
    let one = Process::with(&bus, TaskManager::builder().max_retained_per_user(0));
    one.bus.slow_next("tasks", secs(5));
    one.bus.slow_always("answer with tasks", secs(12));
    let scope = alice();
    let (list, ()) = tokio::join!(one.list(&scope), async {
        pass(secs(1)).await;
        // It runs when the directory is read, and neither the table nor the directory has it when the answer is there.
        one.manager.spawn(meta(), tokio::time::sleep(secs(6))).unwrap();
    });
    assert_eq!(list, []);
    assert!(bus.tasks("alice", secs(15)).await.unwrap().is_empty());
    assert_eq!(one.manager.stats().completed, 1);
}

/// Tasks that have ended are found out by writing their ends, and not by looking.
#[tokio::test(start_paused = true)]
async fn every_fenced_end_is_told() {
    let (bus, revived, other) = two();
    let (end, ending) = tokio::sync::watch::channel(false);
    let work = |mut ending: tokio::sync::watch::Receiver<bool>| async move {
        let _ = ending.wait_for(|end| *end).await;
    };
    for _ in 0..3 {
        revived.manager.spawn(meta(), work(ending.clone())).unwrap();
    }
    run_ready().await;
    revived.bus.disconnect();
    pass(secs(16)).await;
    let seen = other.list(&alice()).await;
    end.send_replace(true);
    pass(secs(3)).await;
    assert_eq!(revived.manager.health().waiting_records, 3);
    revived.bus.reconnect();
    pass(secs(3)).await;
    assert_eq!(seen.len(), 3);
    for lost in &seen {
        assert_lost(lost);
        let scope = alice();
        let waiting = revived.manager.wait(&scope, lost.id);
        assert_eq!(tokio::time::timeout(secs(30), waiting).await.unwrap().unwrap().as_ref(), Some(lost));
    }
    let stats = revived.manager.stats();
    assert_eq!((stats.active, stats.completed, stats.failed), (0, 0, 3));
    assert_eq!(bus.get_all(&keys::background_tasks("s1")).await.unwrap(), []);
}

/// The result of a task that others have ended is neither delivered nor kept.
#[tokio::test(start_paused = true)]
async fn the_result_of_a_fenced_task_is_dropped() {
    let (_bus, revived, other) = two();
    let delivered = Deliveries::new();
    let layer = OffloadLayer::new(revived.manager.clone(), secs(1))
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .deliver(delivered.hook());
    let service = layer.layer(tower::service_fn(async |()| {
        tokio::time::sleep(secs(20)).await;
        Ok::<_, Infallible>("too late")
    }));
    let tools = OffloadLayer::for_tools(revived.manager.clone(), secs(1));
    let tool = tools.layer(tower::service_fn(|call: ToolCall| async move {
        tokio::time::sleep(secs(20)).await;
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "too late"))
    }));
    let call = ToolCall::new("Work", "{}").with_user("alice").with_session("s1");
    assert_eq!(service.oneshot(()).await, Ok("placeholder"));
    tool.oneshot(call).await.unwrap();
    run_ready().await;
    revived.bus.disconnect();
    pass(secs(16)).await;
    other.list(&alice()).await.iter().for_each(assert_lost);
    pass(secs(10)).await;
    assert!(revived.manager.stats().result_bytes > 0, "it waits for its end to be written");
    revived.bus.reconnect();
    pass(secs(3)).await;
    let stats = revived.manager.stats();
    assert_eq!((stats.active, stats.failed, stats.result_bytes), (0, 2, 0));
    assert_eq!(revived.manager.health().waiting_results, 0);
    assert!(delivered.take().is_empty());
}
