//! Several managers on one bus, each behind a connection of its own: what processes are to each other.

#[path = "../support/flaky_bus.rs"]
mod flaky_bus;
#[path = "../support/mod.rs"]
mod support;

mod delivery;
mod lost;
mod outage;
mod panics;
mod runtimes;
mod stop;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tower_offload::bus::{MemoryBus, Queue, SharedBus, keys};
use tower_offload::manager::TaskManagerBuilder;
use tower_offload::task::Scope;
use tower_offload::{TaskManager, TaskMeta, TaskRecord};

use crate::flaky_bus::FlakyBus;

/// A process: a manager and its way to the bus.
struct Process {
    manager: TaskManager,
    bus: Arc<FlakyBus>,
}

impl Process {
    fn new(bus: &MemoryBus) -> Self {
        Self::with(bus, TaskManager::builder())
    }

    fn with(bus: &MemoryBus, builder: TaskManagerBuilder) -> Self {
        let bus = FlakyBus::on(bus.clone());
        let manager = builder.bus(Arc::clone(&bus) as SharedBus).build();
        Self { manager, bus }
    }

    /// A task that never ends by itself.
    fn forever(&self, meta: TaskMeta) -> TaskRecord {
        self.manager.spawn(meta, std::future::pending::<()>()).unwrap()
    }

    async fn list(&self, scope: &Scope) -> Vec<TaskRecord> {
        self.manager.list(scope).await.unwrap()
    }

    async fn get(&self, scope: &Scope, task: &TaskRecord) -> Option<TaskRecord> {
        self.manager.get(scope, task.id).await.unwrap()
    }
}

fn two() -> (MemoryBus, Process, Process) {
    let bus = MemoryBus::builder().shared(true).build();
    let (one, other) = (Process::new(&bus), Process::new(&bus));
    (bus, one, other)
}

/// What is in the inbox of session `s1`, and how many wakeups are queued.
async fn delivered(bus: &MemoryBus) -> (Vec<String>, usize) {
    let inbox = bus.drain(&keys::inbox("s1"), usize::MAX).await.unwrap();
    let wakeups = bus.drain(keys::WAKEUPS, usize::MAX).await.unwrap();
    (inbox.into_iter().map(|entry| entry.payload).collect(), wakeups.len())
}

/// Lets time pass in steps that timers can follow.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
    support::run_ready().await;
}
