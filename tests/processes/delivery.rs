use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use tower::{Layer, ServiceExt, service_fn};
use tower_offload::bus::{Directory, MemoryBus};
use tower_offload::manager::{BoxError, Ended};
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus};

use crate::support::{alice, list, run_ready, secs};
use crate::{Process, delivered, pass, two};

/// Calls a tool that takes so many seconds, and leaves it in the background.
pub(crate) async fn offload(process: &Process, seconds: u64) {
    let tool = service_fn(move |call: ToolCall| async move {
        tokio::time::sleep(secs(seconds)).await;
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "done"))
    });
    let call =
        ToolCall::new("Work", "{}").with_id("call").with_user("alice").with_session("s1").with_agent("agent");
    let layer = OffloadLayer::for_tools(process.manager.clone(), secs(1));
    let answer = layer.layer(tool).oneshot(call).await.unwrap();
    assert!(answer.content[0].as_text().unwrap().contains("running in background"));
    run_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_is_delivered_once_and_the_will_is_forgotten() {
    let (bus, one, other) = two();
    offload(&one, 5).await;
    pass(secs(5)).await;
    let (hints, wakeups) = delivered(&bus).await;
    assert_eq!((hints.len(), wakeups), (1, 1));
    assert!(hints[0].contains("has completed") && hints[0].contains("done"));
    one.bus.disconnect();
    pass(secs(60)).await;
    assert_eq!(other.list(&alice()).await[0].status, TaskStatus::Completed);
    pass(secs(60)).await;
    assert_eq!(delivered(&bus).await, (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn the_session_of_a_lost_task_is_told_once() {
    let (bus, dead, one) = two();
    let others: Vec<_> = (0..5).map(|_| Process::new(&bus)).collect();
    offload(&dead, 1000).await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    assert_eq!(delivered(&bus).await, (Vec::new(), 0));
    let scope = alice();
    let reads = others.iter().chain([&one]).map(|process| process.manager.list(&scope));
    for list in futures_util::future::join_all(reads).await {
        assert_eq!(list.unwrap()[0].status, TaskStatus::Failed);
    }
    pass(secs(100)).await;
    for process in &others {
        process.list(&alice()).await;
    }
    pass(secs(100)).await;
    let (hints, wakeups) = delivered(&bus).await;
    assert_eq!((hints.len(), wakeups), (1, 1));
    for stored in bus.tasks("alice", secs(15)).await.unwrap() {
        assert!(stored.last_will.is_none(), "it was executed");
    }
    let id = one.list(&alice()).await[0].id.to_string();
    assert!(hints[0].contains("has failed: the process that ran it is gone") && hints[0].contains(&id));

    // It comes back, and its tool completes: nobody is told a second time.
    dead.bus.reconnect();
    pass(secs(2000)).await;
    assert_eq!(delivered(&bus).await, (Vec::new(), 0));
    assert_eq!(one.list(&alice()).await[0].status, TaskStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_told_of_a_lost_task_when_the_one_who_found_it_could_not() {
    let (bus, dead, finder) = two();
    offload(&dead, 1000).await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    // It reads and repairs, and then is gone itself.
    finder.bus.fail_after(3, usize::MAX);
    assert_eq!(finder.list(&alice()).await[0].status, TaskStatus::Failed);
    assert_eq!(delivered(&bus).await, (Vec::new(), 0));
    let third = Process::new(&bus);
    third.list(&alice()).await;
    run_ready().await;
    assert_eq!(delivered(&bus).await.0.len(), 1);
    finder.bus.reconnect();
    pass(secs(100)).await;
    assert_eq!(delivered(&bus).await.0.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_last_will_is_executed_once_at_a_time() {
    let (bus, dead, finder) = two();
    offload(&dead, 1000).await;
    dead.bus.disconnect();
    pass(secs(16)).await;
    finder.bus.slow_next("deliver", secs(5));
    for _ in 0..10 {
        finder.list(&alice()).await;
        run_ready().await;
    }
    assert_eq!(finder.bus.calls("deliver"), 1);
    pass(secs(10)).await;
    assert_eq!(delivered(&bus).await.0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_an_end_that_others_cannot_see() {
    let bus = MemoryBus::builder().shared(true).build();
    let (one, other) = (Process::new(&bus), Process::new(&bus));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let (seen, other): (_, TaskManager) = (Arc::clone(&seen), other.manager.clone());
        move |_: TaskRecord, _: Ended<Result<(), Infallible>>| {
            let (seen, other) = (Arc::clone(&seen), other.clone());
            async move {
                let status = list(&other, &alice()).await[0].status;
                seen.lock().unwrap().push(status);
                Ok::<_, BoxError>(())
            }
        }
    };
    let layer = OffloadLayer::new(one.manager.clone(), secs(1))
        .describe(|_: &()| Some(crate::support::meta()))
        .respond(|_: &_| ())
        .deliver(hook);
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>(())
    }));
    service.oneshot(()).await.unwrap();
    run_ready().await;
    one.bus.disconnect();
    pass(secs(8)).await;
    assert_eq!(list_here(&one), (1, 1), "it reads `running` until its end is written, and its result waits");
    assert!(seen.lock().unwrap().is_empty());
    one.bus.reconnect();
    pass(secs(2)).await;
    assert_eq!(*seen.lock().unwrap(), [TaskStatus::Completed]);
}

/// What runs, and what waits to be delivered.
fn list_here(process: &Process) -> (usize, usize) {
    (process.manager.stats().running, process.manager.health().waiting_results)
}
