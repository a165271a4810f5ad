//! What the description of a task costs. A process of its own, because nobody else may allocate meanwhile.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower_offload::TaskMeta;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations, reallocations and the bytes that stay.
fn cost<T>(make: impl FnOnce() -> T) -> (usize, usize, isize) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    drop(made);
    let bytes = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    (change.allocations, change.reallocations, bytes)
}

#[test]
fn a_description_is_two_allocations_and_its_clone_none() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    const SUMMARY: &str =
        "Fetch(url=https://example.org/a/rather/long/path, method=POST, body={\"name\":\"value\"})";
    let short = || TaskMeta::new("alice", "Fetch").with_session("s1");
    let full = || short().with_session(ID).with_agent(ID).with_call_id(ID).with_summary(SUMMARY);

    let (allocations, reallocations, bytes) = cost(short);
    // A user and a name have no more room than they need: what is added makes some.
    assert_eq!((allocations, reallocations), (2, 1));
    assert!(bytes < 200, "{bytes}");
    let (allocations, reallocations, bytes) = cost(full);
    assert!(allocations == 2 && reallocations <= 4, "{allocations}, {reallocations}");
    assert!(bytes < 360, "{bytes}");

    let meta = full();
    assert_eq!(cost(|| meta.clone()), (0, 0, 0));
    // A change copies what a clone still needs.
    assert_eq!(cost(|| meta.clone().with_session("s2")).0, 2);
}
