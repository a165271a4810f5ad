//! Memory is given back. A process of its own, because nobody else may allocate meanwhile.

use std::alloc::System;
use std::convert::Infallible;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tasks_leave_nothing_behind() {
    let secs = Duration::from_secs;
    let manager = TaskManager::builder().retain_for(secs(60)).max_retained_per_user(20_000).build();
    let layer = OffloadLayer::new(manager.clone(), secs(1))
        .describe(|n: &u64| Some(TaskMeta::new("alice", "work").with_session(format!("s{n}"))))
        .respond(|_: &TaskRecord| ());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |n: u64| {
        tokio::time::sleep(Duration::from_secs(2 + n % 10)).await;
        Ok::<_, Infallible>(())
    }));
    let round = async || {
        let calls: Vec<_> = (0..10_000).map(|n| service.clone().oneshot(n)).collect();
        futures_util::future::join_all(calls).await;
        let running = live();
        tokio::time::sleep(secs(30)).await;
        assert_eq!(manager.stats().retained, 10_000);
        // Nobody reads from here on: it goes by itself.
        tokio::time::sleep(secs(100)).await;
        running
    };
    // The first round pays for what the runtime keeps for itself.
    round().await;
    let before = live();
    let running = round().await;
    let grown = live() - before;
    assert_eq!(manager.stats().retained, 0);
    // A leak of one in a hundred tasks would show.
    assert!(running - before > 5_000_000, "{} bytes while running", running - before);
    assert!(grown < 10_000, "{grown} bytes more than before");
}
