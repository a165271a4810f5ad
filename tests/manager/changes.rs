//! Watching tasks change.

use tower_offload::manager::TaskChange;
use tower_offload::{TaskManager, TaskMeta, TaskStatus};

use crate::support::{alice, bob, meta, secs};

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_each_step_of_its_own_tasks_in_order() {
    let manager = TaskManager::builder().cancel_grace(secs(1)).build();
    let mut changes = manager.subscribe(alice());
    manager.register(TaskMeta::new("bob", "other"), async {}).unwrap();
    let task = manager.register(meta(), std::future::pending::<()>()).unwrap();
    manager.stop(&alice(), &task.id.to_string()).await.unwrap();
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
        manager.register(TaskMeta::new("bob", "work"), async {}).unwrap();
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
    let task = manager.register(meta(), tokio::time::sleep(secs(5))).unwrap();
    let done = manager.wait(&alice(), task.id).await.unwrap();
    assert_eq!(done.status, TaskStatus::Completed);
    assert_eq!(manager.wait(&alice(), task.id).await, None);
}
