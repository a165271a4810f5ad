//! A process whose runtimes end one after the other, or stand still.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower_offload::bus::{MemoryBus, SharedBus};
use tower_offload::manager::TaskChange;
use tower_offload::task::FailureReason;
use tower_offload::{TaskManager, TaskRecord, TaskStatus};

use crate::flaky_bus::FlakyBus;
use crate::support::{alice, meta, run_ready};
use crate::{Process, delivered};

const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A runtime that runs its tasks only in `block_on`.
fn still() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn soon<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("it is not forgotten")
}

/// Waits for something that another thread does.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "this never came to be: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_lease_is_renewed_and_ends_are_written_after_the_runtime_that_did_so_has_ended() {
    let bus = MemoryBus::builder().shared(true).build();
    let one = Process::with(&bus, TaskManager::builder().lease(Duration::from_millis(300)));
    let other = Process::new(&bus);
    let (first, second) = (runtime(), runtime());
    // The first runtime carries what writes.
    first.block_on(async { one.manager.spawn(meta(), async {}).unwrap() });
    let (end, ending) = tokio::sync::oneshot::channel::<()>();
    let task = second.block_on(async { one.manager.spawn(meta(), async { drop(ending.await) }).unwrap() });
    until("all is written", || one.manager.health().is_well());
    drop(first);
    // No entry point of the manager is called meanwhile.
    let before = one.bus.calls("write");
    until("the lease is renewed", || one.bus.calls("write") > before + 2);
    end.send(()).unwrap();
    let scope = alice();
    let ended =
        second.block_on(async { tokio::time::timeout(PATIENCE, other.manager.wait(&scope, task.id)).await });
    assert_eq!(ended.unwrap().unwrap().unwrap().status, TaskStatus::Completed);
}

#[test]
fn a_session_is_told_of_a_lost_task_after_the_runtime_that_did_so_has_ended() {
    let bus = MemoryBus::builder().shared(true).build();
    let (first, second) = (runtime(), runtime());
    let dead_bus = FlakyBus::on(bus.clone());
    let dead =
        TaskManager::builder().lease(Duration::from_millis(100)).bus(dead_bus.clone() as SharedBus).build();
    let dead = Process { manager: dead, bus: dead_bus };
    second.block_on(crate::delivery::offload(&dead, 1000));
    until("all is written", || dead.manager.health().is_well());
    dead.bus.disconnect();

    let finder = Process::with(&bus, TaskManager::builder().lease(Duration::from_millis(100)));
    // The second runtime is known to it.
    second.block_on(finder.list(&alice()));
    finder.bus.hang_next("deliver");
    until("the task is lost", || first.block_on(finder.list(&alice()))[0].status == TaskStatus::Failed);
    until("its session is about to be told", || finder.bus.calls("deliver") == 1);
    drop(first);
    until("its session is told", || second.block_on(delivered(&bus)).0.len() == 1);
}

/// A runtime writes the start of a task and then stands still, with a write under way or without.
#[test]
fn an_end_is_written_while_the_runtime_that_wrote_the_start_stands_still() {
    for is_under_way in [false, true] {
        let bus = MemoryBus::builder().shared(true).build();
        let (one, other) = (Process::new(&bus), Process::new(&bus));
        let (stands, runs) = (still(), still());
        stands.block_on(async {
            one.forever(meta());
            run_ready().await;
            assert!(one.manager.health().is_well());
            if is_under_way {
                one.bus.hang_next("write");
                one.forever(meta());
                run_ready().await;
                assert!(!one.manager.health().is_well());
            }
        });
        let task = runs.block_on(async { one.manager.spawn(meta(), async {}).unwrap() });
        // This is the last entry point that is called.
        let ended = soon(&runs, one.manager.wait(&alice(), task.id)).unwrap().unwrap();
        assert_eq!(ended.status, TaskStatus::Completed);
        let seen = soon(&runs, other.list(&alice()));
        assert_eq!(seen.len(), 2 + usize::from(is_under_way));
        drop(stands);
    }
}

/// A caller on a runtime that the manager knows of no other task waits for a task whose runtime ends.
fn a_caller_hears_that_the_runtime_of_its_task_has_ended(
    manager: &TaskManager,
    ends: impl FnOnce(),
    task: &TaskRecord,
) {
    let caller = runtime();
    let scope = alice();
    let mut changes = caller.block_on(async { manager.subscribe(alice()) });
    let mut waiting = tokio_test::task::spawn(manager.wait(&scope, task.id));
    {
        let _entered = caller.enter();
        tokio_test::assert_pending!(waiting.poll());
    }
    ends();
    let ended = soon(&caller, waiting).unwrap().unwrap();
    assert_eq!(ended.failure_reason, Some(FailureReason::WorkerLost));
    let Some(TaskChange::Updated(change)) = soon(&caller, changes.recv()) else { panic!("a change") };
    assert_eq!(change, ended);
}

#[test]
fn a_caller_goes_on_with_what_the_runtime_of_the_tasks_wrote() {
    let bus = MemoryBus::builder().shared(true).build();
    let ends = runtime();
    let chosen = TaskManager::builder().runtime(ends.handle().clone());
    for (process, ends) in [(Process::with(&bus, chosen), ends), (Process::new(&bus), runtime())] {
        let task = ends.block_on(async { process.forever(meta()) });
        until("all is written", || process.manager.health().is_well());
        a_caller_hears_that_the_runtime_of_its_task_has_ended(&process.manager, || drop(ends), &task);
    }
}

#[test]
fn a_subscriber_goes_on_with_what_the_runtime_of_the_tasks_wrote() {
    let bus = MemoryBus::builder().shared(true).build();
    let (ends, caller, process) = (runtime(), runtime(), Process::new(&bus));
    ends.block_on(async { process.forever(meta()) });
    until("all is written", || process.manager.health().is_well());
    let mut changes = caller.block_on(async { process.manager.subscribe(alice()) });
    drop(ends);
    let Some(TaskChange::Updated(change)) = soon(&caller, changes.recv()) else { panic!("a change") };
    assert_eq!(change.failure_reason, Some(FailureReason::WorkerLost));
}

#[test]
fn a_caller_goes_on_with_what_a_runtime_wrote_that_ends_in_a_panic() {
    let bus = MemoryBus::builder().shared(true).build();
    // It is dropped by the thread that panics, and so are its tasks.
    let (ends, process) = (still(), Process::new(&bus));
    let task = ends.block_on(async {
        let task = process.forever(meta());
        run_ready().await;
        task
    });
    assert!(process.manager.health().is_well());
    let panics = move || {
        let unwound =
            catch_unwind(AssertUnwindSafe(move || ends.block_on(async { panic!("in `block_on`") })));
        assert!(unwound.is_err());
    };
    a_caller_hears_that_the_runtime_of_its_task_has_ended(&process.manager, panics, &task);
}
