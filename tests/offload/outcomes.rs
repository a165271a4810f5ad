//! The status is what really happened.

use std::convert::Infallible;

use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::manager::Ended;
use tower_offload::task::{FailureReason, Outcome, Settlement, TaskResult};
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus};

use crate::support::{Alive, Deliveries, SECOND, alice, bob, meta, only, run_ready, secs};

/// Sleeps for two seconds and ends as asked; the layer hands over after one.
async fn end(how: &'static str) -> Result<&'static str, BoxError> {
    tokio::time::sleep(secs(2)).await;
    match how {
        "error" => Err("disk full".into()),
        "long error" => Err("é".repeat(10_000).into()),
        "panic" => panic!("boom {how}"),
        "panic any" => std::panic::panic_any(7),
        _ => Ok(how),
    }
}

async fn offloaded(how: &'static str) -> (TaskRecord, Ended<Result<&'static str, String>>) {
    let manager = TaskManager::new();
    let deliveries = Deliveries::<_, BoxError>::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &&'static str| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .classify(|result: Result<&&'static str, &BoxError>| match result {
            Ok(&"bad answer") => Outcome::failed("said no"),
            Ok(&"classifier panics") => panic!("no idea"),
            Ok(&"pretends to be stopped") => Outcome::Cancelled,
            Ok(_) => Outcome::Completed,
            Err(error) => Outcome::failed(error),
        })
        .deliver(deliveries.hook());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(end));
    assert_eq!(service.oneshot(how).await.unwrap(), "placeholder");
    let task = only(&manager).await;
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    run_ready().await;
    let (delivered, ended) = deliveries.one();
    assert_eq!(delivered, task);
    assert_eq!(only(&manager).await, task, "the record stays");
    let ended = match ended {
        Ended::Returned(result) => Ended::Returned(result.map_err(|error| error.to_string())),
        Ended::Panicked => Ended::Panicked,
        other => panic!("{other:?}"),
    };
    (task, ended)
}

fn failure(task: &TaskRecord) -> (TaskStatus, Option<FailureReason>, Option<&str>) {
    (task.status, task.failure_reason, task.error_summary.as_deref())
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_completed() {
    let (task, ended) = offloaded("fine").await;
    assert_eq!(failure(&task), (TaskStatus::Completed, None, None));
    assert_eq!(ended, Ended::Returned(Ok("fine")));
}

#[tokio::test(start_paused = true)]
async fn a_service_error_is_failed_and_delivered_as_one() {
    let (task, ended) = offloaded("error").await;
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Error), Some("disk full")));
    assert_eq!(ended, Ended::Returned(Err("disk full".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_first_512_characters() {
    let (task, _) = offloaded("long error").await;
    assert_eq!(task.error_summary.as_deref(), Some(&*"é".repeat(512)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_classifier_calls_a_failure_is_failed() {
    let (task, ended) = offloaded("bad answer").await;
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Error), Some("said no")));
    assert_eq!(ended, Ended::Returned(Ok("bad answer")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_is_failed() {
    let (task, ended) = offloaded("panic").await;
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Panic), Some("boom panic")));
    assert_eq!(ended, Ended::Panicked);
    let (task, _) = offloaded("panic any").await;
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Panic), Some("panicked")));
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_leaves_a_failed_task() {
    let (task, _) = offloaded("classifier panics").await;
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Panic), Some("no idea")));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_cancelled_who_was_not_asked_to_stop() {
    let (task, _) = offloaded("pretends to be stopped").await;
    assert_eq!((task.status, task.failure_reason), (TaskStatus::Failed, Some(FailureReason::Error)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_foreground_is_the_callers() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), secs(60))
        .describe(|_: &&'static str| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder");
    let service = ServiceBuilder::new().layer(layer).service(service_fn(end));
    let panic = tokio::spawn(service.oneshot("panic")).await.unwrap_err();
    assert!(panic.is_panic());
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_placeholder_that_panics_leaves_no_task() {
    let manager = TaskManager::new();
    let alive = Alive::default();
    let watched = alive.clone();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| -> &'static str { panic!("no words") });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            std::future::pending::<Result<&'static str, Infallible>>().await
        }
    }));
    assert!(tokio::spawn(service.oneshot(())).await.unwrap_err().is_panic());
    let stats = manager.stats();
    assert_eq!((alive.count(), stats.running, stats.active, stats.retained), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_is_counted_and_changes_no_record() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &&'static str| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder");
    let erring = layer.clone().deliver(async |_, _| Err("nobody there".into()));
    let panicking = layer.deliver(|_, _| -> std::future::Ready<Result<(), BoxError>> { panic!("no") });
    let service = ServiceBuilder::new().layer(erring).service(service_fn(end));
    service.oneshot("fine").await.unwrap();
    let service = ServiceBuilder::new().layer(panicking).service(service_fn(end));
    service.oneshot("fine").await.unwrap();
    tokio::time::sleep(secs(5)).await;
    let stats = manager.stats();
    assert_eq!((stats.completed, stats.undelivered, stats.active), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_there_before_the_status_says_so_and_can_be_read_twice() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|_: &&'static str| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .classify(|result: Result<&&'static str, &BoxError>| {
            let text = result.unwrap().as_bytes();
            Settlement::with_result(Outcome::Completed, TaskResult::new("text/plain", text))
        });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(end));
    service.oneshot("the answer").await.unwrap();
    let id = only(&manager).await.id;
    assert_eq!(manager.result(&alice(), id).await.unwrap(), None);
    manager.wait(&alice(), id).await.unwrap().unwrap();
    for _ in 0..2 {
        let result = manager.result(&alice(), id).await.unwrap().unwrap();
        assert_eq!((result.content_type(), result.body()), ("text/plain", &b"the answer"[..]));
    }
    assert_eq!(manager.result(&bob(), id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn work_past_the_run_time_limit_is_failed_as_timed_out() {
    let manager = TaskManager::builder().max_run_time(secs(5)).build();
    let alive = Alive::default();
    let watched = alive.clone();
    let deliveries = Deliveries::<(), Infallible>::new();
    let layer = OffloadLayer::new(manager.clone(), SECOND)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(deliveries.hook());
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |()| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), Infallible>>().await
        }
    }));
    service.oneshot(()).await.unwrap();
    let start = tokio::time::Instant::now();
    let task = only(&manager).await;
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((start.elapsed(), alive.count()), (secs(5), 0));
    assert_eq!((task.status, task.failure_reason), (TaskStatus::Failed, Some(FailureReason::TimedOut)));
    assert_eq!(task.error_summary.as_deref(), Some("still running in the background after 5s"));
    run_ready().await;
    assert_eq!(deliveries.one().1, Ended::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn work_at_the_run_time_limit_may_end_in_good_order() {
    let manager = TaskManager::builder().max_run_time(secs(5)).cancel_grace(secs(5)).build();
    let polite = async {
        tower_offload::cancellation_token().cancelled().await;
        tokio::time::sleep(secs(2)).await;
        Outcome::failed("not done, and nothing left open")
    };
    let task = manager.spawn(meta(), polite).map_err(|rejected| rejected.refused()).unwrap();
    let start = tokio::time::Instant::now();
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(start.elapsed(), secs(7));
    assert_eq!(failure(&task).2, Some("not done, and nothing left open"));
}

#[tokio::test(start_paused = true)]
async fn work_at_the_run_time_limit_is_told_and_shown_as_stopping_and_is_timed_out() {
    let manager = TaskManager::builder().max_run_time(secs(5)).build();
    let mut changes = manager.subscribe(alice());
    let obedient = async {
        // Without a grace time this poll is its only chance.
        tower_offload::cancellation_token().cancelled().await;
        Outcome::Cancelled
    };
    let task = manager.spawn(meta(), obedient).map_err(|rejected| rejected.refused()).unwrap();
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    let text = "stopped at the limit of its time in the background";
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::TimedOut), Some(text)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Some(tower_offload::manager::TaskChange::Updated(task)) = changes.recv().await else { panic!() };
        seen.push((task.status, task.cancel_requested_at.is_some()));
    }
    let expected = [(TaskStatus::Running, false), (TaskStatus::Running, true), (TaskStatus::Failed, true)];
    assert_eq!(seen, expected);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on top of that");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_panics_again_is_a_panic() {
    let manager = TaskManager::new();
    let work = async { std::panic::panic_any(Bomb) };
    let task = manager.spawn(meta(), async { work.await as () }).map_err(|r| r.refused()).unwrap();
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!((task.status, task.failure_reason), (TaskStatus::Failed, Some(FailureReason::Panic)));
    let work = async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    };
    let task = manager.spawn(meta(), work).map_err(|rejected| rejected.refused()).unwrap();
    run_ready().await;
    manager.stop(&alice(), task.id).await.unwrap();
    let task = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(failure(&task), (TaskStatus::Failed, Some(FailureReason::Panic), Some("on top of that")));
}

/// Says when it is dropped what the manager then says of the task.
struct Witness(TaskManager, std::sync::mpsc::Sender<usize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.1.send(self.0.stats().running).unwrap();
    }
}

#[test]
fn a_task_that_never_began_is_lost_only_when_it_is_gone() {
    let manager = TaskManager::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let witness = Witness(manager.clone(), sender);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    {
        let _inside = runtime.enter();
        let work = async move {
            let _witness = witness;
        };
        manager.spawn(meta(), work).map_err(|rejected| rejected.refused()).unwrap();
    }
    drop(runtime);
    assert_eq!((receiver.recv().unwrap(), manager.stats().running, manager.stats().failed), (1, 0, 1));
}

#[test]
fn a_delivery_that_is_lost_with_its_runtime_is_counted() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), std::time::Duration::ZERO)
        .describe(|(): &()| Some(meta()))
        .respond(|_: &TaskRecord| ())
        .deliver(async |_, _| std::future::pending().await);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(())
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        service.oneshot(()).await.unwrap();
        run_ready().await;
    });
    assert_eq!((manager.stats().completed, manager.stats().active, manager.stats().undelivered), (1, 1, 0));
    drop(runtime);
    assert_eq!((manager.stats().active, manager.stats().undelivered), (0, 1));
}

#[test]
fn work_whose_runtime_goes_away_is_lost_and_says_so() {
    let manager = TaskManager::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = runtime
        .block_on(async { manager.spawn(meta(), std::future::pending::<()>()) })
        .map_err(|rejected| rejected.refused())
        .unwrap();
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = runtime.block_on(manager.get(&alice(), task.id)).unwrap().unwrap();
    assert_eq!((task.status, task.failure_reason), (TaskStatus::Failed, Some(FailureReason::WorkerLost)));
}
