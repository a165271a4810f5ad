//! Futures that are large: half a megabyte, on the stack of 2 MiB that threads have by default.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use tower::{Layer, Service, service_fn};
use tower_offload::task::Scope;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus};

const STACK: usize = 2 << 20;
const LARGE: usize = 500_000;

/// Holds half a megabyte while it waits.
async fn large() -> Result<u8, Infallible> {
    let held = [1; LARGE];
    tokio::task::yield_now().await;
    Ok(black_box(held)[LARGE - 1])
}

/// Runs `test` on a runtime of a thread that has the usual stack.
fn on_a_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // The future of the test is small: it holds response futures, which are pointers.
        runtime.block_on(Box::pin(test()));
    };
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_call_with_a_large_future_needs_no_larger_stack() {
    on_a_thread(async || {
        let manager = TaskManager::new();
        for timeout in [Duration::from_secs(60), Duration::ZERO] {
            let layer = OffloadLayer::new(manager.clone(), timeout)
                .describe(|(): &()| Some(TaskMeta::new("alice", "large")))
                .respond(|_: &TaskRecord| 0);
            let mut service = layer.layer(service_fn(|()| large()));
            let answer = service.call(()).await;
            assert_eq!(answer, Ok(u8::from(!timeout.is_zero())));
        }
        let alice = Scope::user("alice");
        let task = manager.list(&alice).await.unwrap().remove(0);
        let task = manager.wait(&alice, task.id).await.unwrap().unwrap();
        assert_eq!(task.status, TaskStatus::Completed);
    });
}

#[test]
fn nor_does_it_below_another_layer() {
    on_a_thread(async || {
        let manager = TaskManager::new();
        let layer = || {
            OffloadLayer::new(manager.clone(), Duration::from_secs(60))
                .describe(|(): &()| Some(TaskMeta::new("alice", "large")))
                .respond(|_: &TaskRecord| 0)
        };
        let mut service = layer().layer(layer().layer(layer().layer(service_fn(|()| large()))));
        assert_eq!(service.call(()).await, Ok(1));
    });
}
