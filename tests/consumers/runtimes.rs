//! Tokio runtimes that end while others go on with what they carried.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tower_offload::bus::{Closing, Inbox, MemoryBus, SharedBus, Wakeups, keys};

use crate::common::{delivery, is_consumed, message, name, next_name, push, queued, take_lock, wake};
use crate::patience::PATIENCE;
use crate::support::SECOND;

fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn bus() -> SharedBus {
    Arc::new(MemoryBus::new())
}

/// Starts on a runtime that ends.
fn started(bus: &SharedBus, runtime: Runtime) -> Wakeups {
    let wakeups = {
        let _entered = runtime.enter();
        Wakeups::start(Arc::clone(bus))
    };
    drop(runtime);
    wakeups
}

#[test]
fn wakeups_come_on_another_runtime() {
    for ends in [paused(), threads()] {
        let bus = bus();
        let mut wakeups = started(&bus, ends);
        paused().block_on(async {
            push(&*bus, &message("s", 1)).await;
            assert_eq!(next_name(&mut wakeups).await, "s message 1");
        });
        // And on one more.
        paused().block_on(async {
            push(&*bus, &message("t", 2)).await;
            assert_eq!(next_name(&mut wakeups).await, "t message 2");
            wakeups.close().await.unwrap();
        });
    }
}

#[test]
fn a_wait_for_a_wakeup_goes_on_when_the_runtime_ends() {
    let (bus, ends, stays) = (bus(), threads(), threads());
    let mut wakeups = {
        let _entered = ends.enter();
        Wakeups::start(Arc::clone(&bus))
    };
    stays.block_on(async {
        let mut recv = tokio_test::task::spawn(wakeups.recv());
        tokio_test::assert_pending!(recv.poll());
        ends.shutdown_background();
        push(&*bus, &message("s", 1)).await;
        let wakeup = tokio::time::timeout(PATIENCE, recv).await.expect("it comes").unwrap();
        assert_eq!(name(&wakeup), "s message 1");
    });
}

#[test]
fn what_was_kept_is_kept_over_the_end_of_a_runtime() {
    let (bus, first) = (bus(), paused());
    let mut wakeups = first.block_on(async {
        take_lock(&*bus, "busy").await;
        push(&*bus, &message("busy", 1)).await;
        push(&*bus, &message("free", 2)).await;
        let mut wakeups = Wakeups::start(Arc::clone(&bus));
        assert_eq!(next_name(&mut wakeups).await, "free message 2");
        wakeups
    });
    // Given back, and not looked at before the runtime ends.
    wakeups.retry(message("free", 2));
    drop(first);
    paused().block_on(async {
        assert_eq!(next_name(&mut wakeups).await, "free message 2");
        wakeups.close().await.unwrap();
        assert_eq!(queued(&*bus).await, ["busy message 1"]);
    });
}

#[test]
fn what_was_kept_goes_back_when_it_is_dropped_on_another_runtime() {
    let bus = bus();
    let wakeups = started(&bus, paused());
    let handle = wakeups.handle();
    wakeups.retry(message("a", 1));
    paused().block_on(async {
        drop(wakeups);
        tokio::time::sleep(SECOND).await;
        assert_eq!(queued(&*bus).await, ["a message 1"]);
        handle.retry(message("b", 2));
        tokio::time::sleep(SECOND).await;
        assert_eq!(queued(&*bus).await, ["b message 2"]);
    });
}

#[test]
fn without_any_runtime_there_is_no_wakeup_and_no_hang() {
    let runtime = threads();
    let handle = runtime.handle().clone();
    let mut wakeups = started(&bus(), runtime);
    assert!(handle.block_on(wakeups.recv()).is_none());
    assert!(handle.block_on(wakeups.close()).is_err());
}

#[test]
fn the_flag_of_an_inbox_is_renewed_on_another_runtime() {
    let bus = bus();
    let open = async || Inbox::open(Arc::clone(&bus), &wake("s")).await.unwrap();
    let inbox = paused().block_on(open());
    paused().block_on(async {
        for _ in 0..60 {
            inbox.drain(1).await.unwrap();
            tokio::time::sleep(SECOND * 60).await;
            assert!(is_consumed(&*bus, "s").await, "the runner reads it");
        }
        assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    });

    // One that is dropped wakes for what is left in it.
    let inbox = paused().block_on(open());
    paused().block_on(async {
        bus.deliver(&delivery("s", "k")).await.unwrap();
        drop(inbox);
        tokio::time::sleep(SECOND).await;
        assert!(!is_consumed(&*bus, "s").await);
        assert_eq!(bus.len(keys::WAKEUPS).await.unwrap(), 1);
    });
}
