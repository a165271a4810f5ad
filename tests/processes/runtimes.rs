//! A process whose runtimes end one after the other.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower_offload::bus::{MemoryBus, SharedBus};
use tower_offload::{TaskManager, TaskStatus};

use crate::flaky_bus::FlakyBus;
use crate::support::{alice, meta};
use crate::{Process, delivered};

const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
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
