//! A bus that panics, as one that another crate has made may do.

use std::convert::Infallible;

use tower::{Layer, ServiceExt};
use tower_offload::bus::{Registry, keys};
use tower_offload::task::FailureReason;
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{OffloadLayer, TaskStatus};

use crate::support::{alice, meta, run_ready, secs};
use crate::{delivered, pass, two};

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_bus_is_an_error_and_the_keeper_tries_again() {
    let (_bus, one, other) = two();
    one.bus.panic_next("write");
    let task = one.forever(meta());
    // No entry point of this process is used from here on.
    pass(secs(2)).await;
    assert!(one.bus.has_panicked());
    assert_eq!(other.get(&alice(), &task).await.as_ref(), Some(&task));
    // It looks after its tasks once in a lease, and renews that lease.
    one.bus.panic_next("check");
    pass(secs(60)).await;
    assert!(one.bus.has_panicked());
    other.manager.stop(&alice(), task.id).await.unwrap();
    pass(secs(60)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_bus_panics_is_an_error() {
    let (_bus, one, _other) = two();
    let task = one.forever(meta());
    run_ready().await;
    one.bus.panic_next("tasks");
    one.bus.panic_next("task");
    assert!(one.manager.list(&alice()).await.is_err());
    assert!(one.manager.get(&alice(), task.id).await.is_err());
    assert_eq!(one.list(&alice()).await, [task]);
}

#[tokio::test(start_paused = true)]
async fn results_and_last_wills_are_delivered_by_a_bus_that_has_panicked() {
    let (bus, one, other) = two();
    let layer = OffloadLayer::for_tools(one.manager.clone(), secs(1));
    let tool = tower::service_fn(|call: ToolCall| async move {
        tokio::time::sleep(secs(3)).await;
        if call.name() == "Hangs" {
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "done"))
    });
    let call = |name: &str| ToolCall::new(name, "{}").with_user("alice").with_session("s1");
    let service = layer.layer(tool);
    one.bus.panic_next("deliver");
    let _ = service.clone().oneshot(call("Ends")).await;
    pass(secs(10)).await;
    assert_eq!(delivered(&bus).await.0.len(), 1);

    let _ = service.oneshot(call("Hangs")).await;
    run_ready().await;
    one.bus.disconnect();
    pass(secs(16)).await;
    for operation in ["write", "deliver", "forget will"] {
        other.bus.panic_next(operation);
    }
    // The first reader cannot end it, and the second one does.
    let running = other.list(&alice()).await;
    assert!(running.iter().any(|task| task.status == TaskStatus::Running), "{running:?}");
    pass(secs(30)).await;
    let ended = other.list(&alice()).await;
    assert!(ended.iter().any(|task| task.failure_reason == Some(FailureReason::WorkerLost)), "{ended:?}");
    pass(secs(60)).await;
    assert!(other.bus.has_panicked());
    assert_eq!(delivered(&bus).await.0.len(), 1);
    assert_eq!(bus.get_all(&keys::background_tasks("s1")).await.unwrap(), []);
}
