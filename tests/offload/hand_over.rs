//! When a call moves to the background, and when it does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::offload::Plan;
use tower_offload::{Offload, OffloadLayer, TaskManager, TaskMeta, TaskRecord, TaskStatus};

use crate::support::{Deliveries, SECOND, alice, list, meta, only, secs};

/// A service that sleeps for the request.
async fn sleep(request: Duration) -> Result<String, Infallible> {
    tokio::time::sleep(request).await;
    Ok("done".to_owned())
}

fn placeholder(task: &TaskRecord) -> String {
    format!("task {}", task.id)
}

fn describe(_: &Duration) -> Option<TaskMeta> {
    Some(meta())
}

#[test]
fn a_call_that_is_ready_touches_no_clock_no_timer_and_no_task() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), Duration::ZERO)
        .describe(|_: &u32| Some(meta()))
        .respond(|_: &TaskRecord| 0);
    let mut service =
        ServiceBuilder::new().layer(layer).service(service_fn(async |n: u32| Ok::<_, Infallible>(n + 1)));
    // There is no runtime here: a timer or a task would panic.
    let answer = service.ready().now_or_never().unwrap().unwrap().call(1).now_or_never();
    assert_eq!(answer, Some(Ok(2)));
    assert_eq!(manager.stats(), TaskManager::new().stats());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_done_in_time_answers_as_without_the_layer() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), secs(10)).describe(describe).respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    assert_eq!(service.oneshot(secs(9)).await.unwrap(), "done");
    assert_eq!(manager.stats(), TaskManager::new().stats());
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_answered_at_the_deadline_and_goes_on() {
    let manager = TaskManager::new();
    let deliveries = Deliveries::new();
    let layer = OffloadLayer::new(manager.clone(), secs(10))
        .describe(|_: &Duration| {
            let meta = TaskMeta::new("alice", "Sleep").with_session("s1").with_agent("a1");
            Some(meta.with_call_id("call_1").with_summary("Sleep(seconds=30)"))
        })
        .respond(placeholder)
        .deliver(deliveries.hook());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));

    let start = tokio::time::Instant::now();
    let answer = service.oneshot(secs(30)).await.unwrap();
    assert_eq!(start.elapsed(), secs(10));

    let task = only(&manager).await;
    assert_eq!(answer, format!("task {}", task.id));
    assert_eq!(task.status, TaskStatus::Running);
    assert_eq!((task.completed_at, task.error_summary.clone(), task.failure_reason), (None, None, None));
    assert_eq!((task.meta.user_id(), task.meta.session_id(), task.meta.agent_id()), ("alice", "s1", "a1"));
    assert_eq!(
        (task.meta.tool_name(), task.meta.summary(), task.meta.call_id()),
        ("Sleep", "Sleep(seconds=30)", Some("call_1"))
    );

    let done = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(start.elapsed(), secs(30), "it went on and was not started again");
    assert_eq!(done.status, TaskStatus::Completed);
    assert!(done.completed_at.unwrap() >= done.started_at);
    assert_eq!(only(&manager).await, done);
    crate::support::run_ready().await;
    let (delivered, ended) = deliveries.one();
    assert_eq!(delivered, done);
    assert_eq!(ended.returned(), Some(Ok("done".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn the_work_is_called_once() {
    let manager = TaskManager::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let layer = OffloadLayer::new(manager.clone(), secs(1)).describe(describe).respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        sleep(request)
    }));
    service.oneshot(secs(5)).await.unwrap();
    let task = only(&manager).await;
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_at_the_deadline_is_not_late() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), secs(10)).describe(describe).respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    assert_eq!(service.oneshot(secs(10)).await.unwrap(), "done");
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_describer_that_says_none_keeps_the_call_in_the_foreground() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &Duration| None::<TaskMeta>)
        .respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    assert_eq!(service.oneshot(secs(1000)).await.unwrap(), "done");
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_can_have_a_timeout_of_its_own() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|request: &Duration| Plan::offload(meta()).with_timeout(*request / 2))
        .respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    let start = tokio::time::Instant::now();
    assert!(service.oneshot(secs(60)).await.unwrap().starts_with("task "));
    assert_eq!(start.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn extreme_timeouts_are_what_they_say() {
    async fn call(timeout: Duration) -> String {
        let layer = OffloadLayer::new(TaskManager::new(), timeout).describe(describe).respond(placeholder);
        let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
        service.oneshot(secs(86_400)).await.unwrap()
    }
    assert!(call(Duration::ZERO).await.starts_with("task "));
    assert!(call(Duration::from_nanos(1)).await.starts_with("task "));
    assert_eq!(call(Duration::MAX).await, "done");
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_always_busy_is_late_all_the_same() {
    let manager = TaskManager::new();
    let layer =
        OffloadLayer::new(manager.clone(), SECOND).describe(|(): &()| Some(meta())).respond(placeholder);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        loop {
            // Uses up the whole cooperative budget of the task at each poll.
            tokio::task::consume_budget().await;
        }
        #[expect(unreachable_code, reason = "it says the type")]
        Ok::<_, Infallible>(String::new())
    }));
    let call = tokio::spawn(service.oneshot(()));
    crate::support::run_ready().await;
    tokio::time::advance(SECOND).await;
    assert!(call.await.unwrap().unwrap().starts_with("task "));
    let task = only(&manager).await;
    manager.stop(&alice(), task.id).await.unwrap();
    assert_eq!(manager.wait(&alice(), task.id).await.unwrap().unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_at_once_all_finish_and_are_listed() {
    let manager = TaskManager::builder().max_retained_per_user(20_000).build();
    let deliveries = Deliveries::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(describe)
        .respond(placeholder)
        .deliver(deliveries.hook());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    let calls: Vec<_> = (0..10_000).map(|n| service.clone().oneshot(secs(2 + n % 7))).collect();
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().starts_with("task ")));
    assert_eq!(list(&manager, &alice()).await.len(), 10_000);
    tokio::time::sleep(secs(10)).await;
    let tasks = list(&manager, &alice()).await;
    assert_eq!(tasks.len(), 10_000);
    assert!(tasks.iter().all(|task| task.status == TaskStatus::Completed));
    assert_eq!(deliveries.take().len(), 10_000);
    let stats = manager.stats();
    assert_eq!((stats.running, stats.active, stats.late), (0, 0, 0));
}

#[test]
fn the_types_are_what_tower_stacks_need() {
    fn service<R, T: Service<R, Error = Infallible> + Clone + Send + Sync + 'static>(_: &T)
    where
        T::Future: Send + 'static,
    {
    }
    let layer = OffloadLayer::new(TaskManager::new(), SECOND).describe(describe).respond(placeholder);
    let stack: Offload<_, _> = ServiceBuilder::new().layer(layer).service(service_fn(sleep));
    service::<Duration, _>(&stack);
    assert!(format!("{stack:?}").starts_with("Offload"));
}
