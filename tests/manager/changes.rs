//! Watching tasks change.

use tower_offload::manager::TaskChange;
use tower_offload::{TaskManager, TaskMeta, TaskStatus};

use crate::support::{alice, bob, meta, secs};

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_each_step_of_its_own_tasks_in_order() {
    let manager = TaskManager::builder().cancel_grace(secs(1)).build();
    let mut changes = manager.subscribe(alice());
    manager.spawn(TaskMeta::new("bob", "other"), async {}).unwrap();
    let task = manager.spawn(meta(), std::future::pending::<()>()).unwrap();
    manager.stop(&alice(), task.id).await.unwrap();
    let mut next = async || match changes.recv().await {
        Some(TaskChange::Updated(record)) => record,
        other => panic!("{other:?}"),
    };
    assert_eq!(next().await, task);
    let stopping = next().await;
    assert_eq!((stopping.status, stopping.cancel_requested_at.is_some()), (TaskStatus::Running, true));
    let stopped = next().await;
    assert_eq!((stopped.id, stopped.status), (task.id, TaskStatus::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_too_slow_is_told_so_and_goes_on() {
    let manager = TaskManager::new();
    let mut changes = manager.subscribe(bob());
    for _ in 0..3000 {
        manager.spawn(TaskMeta::new("bob", "work"), async {}).unwrap();
    }
    let Some(TaskChange::Lagged(lost)) = changes.recv().await else { panic!("not told") };
    assert!(lost >= 1000);
    assert!(matches!(changes.recv().await, Some(TaskChange::Updated(_))));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_manager() {
    let manager = TaskManager::new();
    let mut changes = manager.subscribe(alice());
    drop(manager);
    assert_eq!(changes.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn waiting_sees_the_end_even_if_nothing_is_retained() {
    let manager = TaskManager::builder().max_retained_per_user(0).build();
    let task = manager.spawn(meta(), tokio::time::sleep(secs(5))).unwrap();
    let done = manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(done.status, TaskStatus::Completed);
    assert_eq!(manager.wait(&alice(), task.id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_for_a_task_that_never_came_to_run() {
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    let manager = TaskManager::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = std::sync::Arc::new(std::sync::Mutex::new(sender));
    let layer = tower_offload::OffloadLayer::new(manager.clone(), secs(1))
        .describe(|(): &()| Some(meta()))
        .respond({
            let manager = manager.clone();
            move |task: &tower_offload::TaskRecord| {
                let (manager, id) = (manager.clone(), task.id);
                let mut wait = Box::pin(async move { manager.wait(&alice(), id).await });
                assert!(futures_util::FutureExt::now_or_never(&mut wait).is_none());
                waiting.lock().unwrap().send(wait).unwrap();
                panic!("no words")
            }
        });
    let service = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(async |()| std::future::pending::<Result<(), std::convert::Infallible>>().await));
    assert!(tokio::spawn(service.oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(receiver.recv().unwrap().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_is_told_however_many_there_are() {
    let manager = TaskManager::builder().max_retained_per_user(1).build();
    let waits: Vec<_> = (0..4000)
        .map(|_| {
            let id = manager.spawn(meta(), tokio::time::sleep(secs(5))).unwrap().id;
            let manager = manager.clone();
            tokio::spawn(async move { manager.wait(&alice(), id).await })
        })
        .collect();
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap().unwrap().status, TaskStatus::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn asking_again_tells_nobody_anything() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let mut changes = manager.subscribe(bob());
    let task = manager.spawn(TaskMeta::new("bob", "work"), std::future::pending::<()>()).unwrap();
    for _ in 0..5000 {
        manager.stop(&bob(), task.id).await.unwrap();
        manager.stop_all(&bob()).await.unwrap();
    }
    manager.wait(&bob(), task.id).await.unwrap().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Some(TaskChange::Updated(task)) = changes.recv().await else { panic!("flooded") };
        seen.push((task.status, task.cancel_requested_at.is_some()));
    }
    let expected = [(TaskStatus::Running, false), (TaskStatus::Running, true), (TaskStatus::Cancelled, true)];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_a_change_too() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    manager.spawn(meta(), std::future::pending::<()>()).unwrap();
    let mut changes = manager.subscribe(alice());
    manager.shutdown(secs(1)).await;
    let Some(TaskChange::Updated(task)) = changes.recv().await else { panic!("not told") };
    assert_eq!((task.status, task.cancel_requested_at.is_some()), (TaskStatus::Running, true));
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_work_runs_is_in_what_is_told_of_it() {
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    let manager = TaskManager::new();
    let mut changes = manager.subscribe(alice());
    let layer = tower_offload::OffloadLayer::new(manager.clone(), secs(1))
        .describe(|(): &()| Some(meta()))
        .respond({
            let manager = manager.clone();
            move |_: &tower_offload::TaskRecord| {
                let asked = futures_util::FutureExt::now_or_never(manager.stop_all(&alice()));
                assert_eq!(asked.unwrap().unwrap(), 1);
            }
        });
    let service = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(async |()| std::future::pending::<Result<(), std::convert::Infallible>>().await));
    service.oneshot(()).await.unwrap();
    for _ in 0..3 {
        let Some(TaskChange::Updated(task)) = changes.recv().await else { panic!("not told") };
        assert!(task.cancel_requested_at.is_some(), "never taken back");
    }
}

/// A waker that asks the manager for something, as a hand-written executor may.
struct Reenters(TaskManager);

impl std::task::Wake for Reenters {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.stats();
        drop(self.0.spawn(meta(), async {}));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_may_use_the_manager() {
    let manager = TaskManager::new();
    let waker = std::task::Waker::from(std::sync::Arc::new(Reenters(manager.clone())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut changes = manager.subscribe(alice());
    let task = {
        let mut next = Box::pin(changes.recv());
        assert!(next.as_mut().poll(&mut context).is_pending());
        manager.spawn(meta(), tokio::time::sleep(secs(1))).unwrap()
    };
    let alice = alice();
    let mut wait = Box::pin(manager.wait(&alice, task.id));
    assert!(wait.as_mut().poll(&mut context).is_pending());
    tokio::time::sleep(secs(2)).await;
    assert_eq!(wait.await.unwrap().unwrap().status, TaskStatus::Completed);
}

#[test]
fn a_waker_that_blocks_leaves_what_is_not_told_bounded() {
    use std::sync::{Arc, Mutex, mpsc};
    use std::task::{Context, Wake, Waker};

    /// Says that it was woken, and blocks until it may go on.
    struct Blocks(Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>);

    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            let says_and_waits = self.0.lock().unwrap();
            let _ = says_and_waits.0.send(());
            let _ = says_and_waits.1.recv();
        }
    }

    const CHANGES: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let manager = TaskManager::builder().max_running_per_user(10_000).build();
    let mut changes = manager.subscribe(alice());
    let ((says, is_woken), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let spawn = || {
        let _entered = runtime.enter();
        manager.spawn(meta(), std::future::pending::<()>()).unwrap()
    };
    let first = {
        let waker = Waker::from(Arc::new(Blocks(Mutex::new((says, may_go_on)))));
        let mut next = std::pin::pin!(changes.recv());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        std::thread::scope(|scope| {
            let telling = scope.spawn(spawn);
            is_woken.recv().unwrap();
            // While that thread is blocked, others go on.
            for _ in 1..CHANGES {
                spawn();
            }
            go_on.send(()).unwrap();
            telling.join().unwrap()
        })
    };
    // What was there first is told first, and what found no room is counted.
    let (mut told, mut last) = (0, None);
    while let Some(Some(change)) = futures_util::FutureExt::now_or_never(changes.recv()) {
        told += match &change {
            TaskChange::Updated(_) => 1,
            TaskChange::Lagged(lost) => *lost,
            other => panic!("{other:?}"),
        };
        last = Some(change);
    }
    assert_eq!(told, CHANGES);
    let Some(TaskChange::Lagged(left_out)) = last else { panic!("{last:?}") };
    assert!(left_out > CHANGES - 1_500, "{left_out}");
    drop(first);
}
