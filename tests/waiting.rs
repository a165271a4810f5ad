//! What calls cost that wait for a while. A process of its own, because nobody else may allocate meanwhile.

use std::alloc::System;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::poll_fn;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service, service_fn};
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_costs_no_further_allocation_and_keeps_nothing() {
    let layer = OffloadLayer::new(TaskManager::new(), Duration::from_secs(10))
        .describe(|_: &u32| Some(TaskMeta::new("", "")))
        .respond(|_: &TaskRecord| 0);
    let mut service = layer.layer(service_fn(async |n: u32| {
        let mut waited = false;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        Ok::<_, Infallible>(n)
    }));
    let mut context = Context::from_waker(Waker::noop());
    let mut call = |n| {
        let mut call = pin!(service.call(n));
        assert!(call.as_mut().poll(&mut context).is_pending());
        assert_eq!(call.poll(&mut context), Poll::Ready(Ok(n)));
    };
    // The first one starts the janitor.
    call(0);
    let meta = Region::new(ALLOCATOR);
    drop(TaskMeta::new("", ""));
    let meta = meta.change().allocations;
    let region = Region::new(ALLOCATOR);
    (0..100).for_each(&mut call);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (100 * (1 + meta), 0));

    let region = Region::new(ALLOCATOR);
    let mut waiting: Vec<_> = (0..10_000).map(|n| Box::pin(service.call(n))).collect();
    assert!(waiting.iter_mut().all(|call| call.as_mut().poll(&mut context).is_pending()));
    drop(waiting);
    let change = region.change();
    let left = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    assert!(left.abs() < 10_000, "{left} bytes are left");
}
