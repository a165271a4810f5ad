use std::convert::Infallible;

use tower::{Layer, ServiceExt};
use tower_offload::OffloadLayer;
use tower_offload::bus::MemoryBus;
use tower_offload::tool::{ToolCall, ToolResponse};
use tower_offload::{TaskManager, TaskStatus};

use crate::support::{alice, meta, run_ready, secs};
use crate::{Process, pass, two};

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_bus_is_away_is_written_when_it_is_back() {
    let (_bus, one, other) = two();
    let early = one.forever(meta());
    run_ready().await;
    one.bus.disconnect();
    let ended = one.manager.spawn(meta(), async {}).unwrap();
    let late = one.forever(meta());
    let brief = one.manager.spawn(meta(), tokio::time::sleep(secs(1))).unwrap();
    one.manager.stop(&alice(), early.id).await.unwrap();
    pass(secs(5)).await;
    // No end counts that other processes cannot see; and the view of all is not there, and no shorter one is shown.
    assert_eq!((one.manager.stats().running, one.manager.stats().completed), (4, 0));
    assert!(one.manager.list(&alice()).await.is_err());
    assert!(one.manager.get(&alice(), late.id).await.is_err());
    let health = one.manager.health();
    assert_eq!((health.waiting_records, health.waiting_results), (4, 0), "they have no result to deliver");
    assert!(health.waiting_since.is_some() && !health.is_well());

    one.bus.reconnect();
    pass(secs(2)).await;
    let list = other.list(&alice()).await;
    let expected = [
        (early.id, TaskStatus::Cancelled),
        (ended.id, TaskStatus::Completed),
        (late.id, TaskStatus::Running),
        (brief.id, TaskStatus::Completed),
    ];
    let seen: Vec<_> = list.iter().map(|task| (task.id, task.status)).collect();
    assert_eq!(seen.len(), 4);
    for task in expected {
        assert!(seen.contains(&task), "{task:?}: {seen:?}");
    }
    assert_eq!(one.list(&alice()).await, list);
    let health = one.manager.health();
    assert_eq!((health.waiting_records, health.waiting_results, health.waiting_since), (0, 0, None));
    assert!(health.is_well());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_answer_was_lost_is_repeated_without_harm() {
    let (_bus, one, other) = two();
    for failures in 0..20 {
        one.bus.fail_after(failures % 3, 2);
        let task = one.manager.spawn(meta(), tokio::time::sleep(secs(1))).unwrap();
        pass(secs(3)).await;
        one.bus.reconnect();
        pass(secs(2)).await;
        assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Completed);
    }
    assert_eq!(other.list(&alice()).await.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_by_the_limit_on_running_tasks() {
    let (bus, ..) = two();
    let one = Process::with(&bus, TaskManager::builder().max_running(10));
    one.bus.disconnect();
    for _ in 0..100 {
        let _ = one.manager.spawn(meta(), async {});
        run_ready().await;
    }
    let health = one.manager.health();
    assert_eq!((health.waiting_records, health.waiting_results), (10, 0));
    assert_eq!(one.manager.stats().refused, 90);
    one.bus.reconnect();
    pass(secs(2)).await;
    assert_eq!(one.list(&alice()).await.len(), 10);
    assert!(one.manager.spawn(meta(), async {}).is_ok());
}

#[tokio::test(start_paused = true)]
async fn looking_after_many_tasks_on_a_slow_bus_does_not_cost_the_lease() {
    let (_bus, one, other) = two();
    for _ in 0..3_000 {
        one.forever(meta());
    }
    run_ready().await;
    one.bus.slow_always("check", secs(2));
    for _ in 0..60 {
        pass(secs(1)).await;
        let list = other.list(&alice()).await;
        assert_eq!(list.len(), 3_000);
        assert!(list.iter().all(|task| task.status == TaskStatus::Running));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_the_bus_is_away_says_what_was_not_told() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    one.bus.disconnect();
    let report = one.manager.shutdown(secs(1)).await;
    assert_eq!((report.cancelled, report.unsettled, report.undelivered), (0, 0, 1));
    // It goes on trying as long as the process lives.
    one.bus.reconnect();
    pass(secs(2)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn managers_that_are_gone_leave_no_listener_behind() {
    let (_bus, one, _other) = two();
    one.manager.spawn(meta(), async {}).unwrap();
    pass(secs(20)).await;
    let bus = std::sync::Arc::downgrade(&one.bus);
    drop(one);
    run_ready().await;
    assert!(bus.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn results_that_wait_for_the_bus_count_against_the_limits() {
    let bus = MemoryBus::builder().shared(true).build();
    let builder = TaskManager::builder().max_result_bytes_per_user(3500).max_result_bytes_per_task(2000);
    let one = Process::with(&bus, builder);
    let tool = tower::service_fn(|call: ToolCall| async move {
        tokio::time::sleep(secs(3)).await;
        let text = "x".repeat(call.input().len());
        Ok::<_, Infallible>(ToolResponse::text(call.id(), text))
    });
    let tool = OffloadLayer::for_tools(one.manager.clone(), secs(1)).layer(tool);
    let call = async |bytes: usize| {
        let arguments = format!("\"{}\"", "x".repeat(bytes - 2));
        let call = ToolCall::new("Work", arguments).with_user("alice").with_session("s1");
        tool.clone().oneshot(call).await.unwrap();
    };
    one.bus.disconnect();
    call(10_000).await;
    pass(secs(3)).await;
    let stats = one.manager.stats();
    assert_eq!((stats.running, stats.result_bytes, stats.results_dropped), (1, 0, 1), "it is too large");
    for _ in 0..5 {
        call(1000).await;
    }
    pass(secs(3)).await;
    let waiting = one.manager.stats();
    assert_eq!((waiting.running, waiting.results_dropped), (6, 3));
    assert!((3000..=3500).contains(&waiting.result_bytes), "{waiting:?}");

    one.bus.reconnect();
    pass(secs(3)).await;
    let stats = one.manager.stats();
    assert_eq!((stats.running, stats.completed), (0, 6));
    assert_eq!((stats.result_bytes, stats.results_dropped), (waiting.result_bytes, 3));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_ends_with_its_runtime_during_a_shutdown_counts_once() {
    use tower::service_fn;
    let (_bus, one, _other) = two();
    // What writes is carried by the runtime of this test.
    one.list(&alice()).await;
    one.bus.disconnect();
    let layer = OffloadLayer::new(one.manager.clone(), secs(1))
        .describe(|_: &()| Some(meta()))
        .respond(|_: &tower_offload::TaskRecord| ())
        .deliver(|_, _: tower_offload::manager::Ended<Result<(), Infallible>>| async { Ok(()) });
    let service = layer.layer(service_fn(async |()| {
        tokio::time::sleep(secs(5)).await;
        Ok::<_, Infallible>(())
    }));
    let runtime = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            service.oneshot(()).await.unwrap();
            pass(secs(10)).await;
        });
        runtime
    });
    let runtime = runtime.join().unwrap();
    let health = one.manager.health();
    assert_eq!((health.waiting_records, health.waiting_results), (1, 1));
    let manager = one.manager.clone();
    let shutdown = tokio::spawn(async move { manager.shutdown(secs(1)).await });
    run_ready().await;
    std::thread::spawn(move || drop(runtime)).join().unwrap();
    let health = one.manager.health();
    assert_eq!((health.waiting_records, health.waiting_results), (1, 0));
    let report = shutdown.await.unwrap();
    assert_eq!((report.completed, report.unsettled, report.undelivered), (0, 0, 1), "{report}");
    one.bus.reconnect();
    pass(secs(3)).await;
    let stats = one.manager.stats();
    assert_eq!((stats.completed, stats.undelivered, stats.active), (1, 1, 0));
}
