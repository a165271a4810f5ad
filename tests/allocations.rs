//! What a call costs that never moves. A process of its own, because nobody else may allocate meanwhile.

use std::alloc::System;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Service, ServiceBuilder, service_fn};
use tower_offload::offload::OffloadCall;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Kept(u32);

impl OffloadCall for Kept {
    fn meta(&self) -> TaskMeta {
        TaskMeta::new("alice", self.0.to_string())
    }
}

#[test]
fn a_call_that_is_ready_costs_one_allocation() {
    let layer = OffloadLayer::new(TaskManager::new(), Duration::from_secs(10))
        .describe(|n: &u32| Some(Kept(*n)))
        .respond(|_: &TaskRecord| 0);
    let bare = service_fn(async |n: u32| Ok::<_, Infallible>(n + 1));
    let mut service = ServiceBuilder::new().layer(layer).service(bare);
    assert_eq!(service.call(0).now_or_never(), Some(Ok(1)));

    let region = Region::new(ALLOCATOR);
    for n in 0..100 {
        assert_eq!(service.call(n).now_or_never(), Some(Ok(n + 1)));
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (100, 0, 100));
}
