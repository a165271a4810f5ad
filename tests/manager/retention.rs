//! What is kept of finished tasks, for whom, and for how long.

use tower_offload::task::{Outcome, Scope};
use tower_offload::{TaskManager, TaskMeta};

use crate::support::{alice, bob, list, secs};

async fn names(manager: &TaskManager, user: &str) -> Vec<String> {
    let tasks = list(manager, &Scope::user(user)).await;
    tasks.iter().map(|task| task.meta.tool_name().to_owned()).collect()
}

fn sleep(manager: &TaskManager, user: &str, name: &str, seconds: u64) {
    manager.spawn(TaskMeta::new(user, name), tokio::time::sleep(secs(seconds))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_each_user_the_ones_that_ended_last_are_kept() {
    let manager = TaskManager::builder().max_retained_per_user(2).build();
    // Registered first, ends last.
    for (name, seconds) in [("long", 40), ("a", 10), ("b", 20), ("c", 30), ("forever", 1_000_000)] {
        sleep(&manager, "alice", name, seconds);
    }
    tokio::time::sleep(secs(35)).await;
    assert_eq!(names(&manager, "alice").await, ["long", "b", "c", "forever"]);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(names(&manager, "alice").await, ["long", "c", "forever"], "what has just ended can be seen");
}

#[tokio::test(start_paused = true)]
async fn nobody_pushes_out_what_belongs_to_another() {
    let manager = TaskManager::new();
    sleep(&manager, "alice", "long", 100);
    for n in 0..200 {
        sleep(&manager, "bob", &n.to_string(), 200);
    }
    tokio::time::sleep(secs(300)).await;
    assert_eq!(names(&manager, "alice").await, ["long"]);
    let kept: Vec<_> = (150..200).map(|n| n.to_string()).collect();
    assert_eq!(names(&manager, "bob").await, kept, "fifty by default, oldest end first");
}

#[tokio::test(start_paused = true)]
async fn running_tasks_are_never_dropped() {
    let manager = TaskManager::builder().max_retained_per_user(0).max_retained(0).build();
    sleep(&manager, "alice", "running", 100);
    for n in 0..100 {
        sleep(&manager, "alice", &n.to_string(), 1);
    }
    tokio::time::sleep(secs(50)).await;
    assert_eq!(names(&manager, "alice").await, ["running"]);
    tokio::time::sleep(secs(100)).await;
    assert_eq!(names(&manager, "alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn all_users_together_have_a_limit_too() {
    let manager = TaskManager::builder().max_retained(3).build();
    for (n, user) in ["alice", "bob", "carol", "dave", "erin"].into_iter().enumerate() {
        sleep(&manager, user, "work", 10 + n as u64);
    }
    tokio::time::sleep(secs(60)).await;
    assert_eq!(manager.stats().retained, 3);
    assert_eq!((names(&manager, "bob").await.len(), names(&manager, "carol").await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn finished_tasks_are_dropped_after_their_time() {
    let manager = TaskManager::builder().retain_for(secs(60)).build();
    sleep(&manager, "alice", "first", 10);
    sleep(&manager, "alice", "second", 40);
    sleep(&manager, "alice", "running", 1000);
    tokio::time::sleep(secs(69)).await;
    assert_eq!(names(&manager, "alice").await, ["first", "second", "running"]);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(names(&manager, "alice").await, ["second", "running"]);
    tokio::time::sleep(secs(30)).await;
    assert_eq!(names(&manager, "alice").await, ["running"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_time_they_stay() {
    let manager = TaskManager::builder().retain_for(None).build();
    sleep(&manager, "alice", "old", 1);
    tokio::time::sleep(secs(10 * 365 * 86_400)).await;
    assert_eq!(names(&manager, "alice").await, ["old"]);
}

fn result(manager: &TaskManager, user: &str, bytes: usize) -> tower_offload::TaskId {
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    use tower_offload::task::{Settlement, TaskResult};
    let layer = tower_offload::OffloadLayer::new(manager.clone(), secs(0))
        .describe({
            let user = user.to_owned();
            move |(): &()| Some(TaskMeta::new(&*user, "work"))
        })
        .respond(|task: &tower_offload::TaskRecord| task.id)
        .classify(move |_: Result<&tower_offload::TaskId, &std::convert::Infallible>| {
            Settlement::with_result(Outcome::Completed, TaskResult::new("", vec![0; bytes]))
        });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| {
        tokio::task::yield_now().await;
        Ok(tower_offload::TaskId::new())
    }));
    futures_util::FutureExt::now_or_never(service.oneshot(())).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn results_have_a_limit_in_bytes_and_nobody_pushes_out_another() {
    let manager = TaskManager::builder().max_result_bytes(1000).max_result_bytes_per_task(600).build();
    let kept = async |user, bytes| {
        let id = result(&manager, user, bytes);
        manager.wait(&Scope::user(user), id).await.unwrap().unwrap();
        id
    };
    let too_large = kept("alice", 601).await;
    assert_eq!(manager.result(&alice(), too_large).await.unwrap(), None);
    let (first, second) = (kept("alice", 400).await, kept("alice", 400).await);
    assert!(
        manager.result(&alice(), first).await.unwrap().is_some()
            && manager.result(&alice(), second).await.unwrap().is_some()
    );
    // No room: bob has nothing of his own to give up.
    let of_bob = kept("bob", 400).await;
    assert_eq!(manager.result(&bob(), of_bob).await.unwrap(), None);
    // Alice has.
    let third = kept("alice", 600).await;
    let mut have = Vec::new();
    for id in [first, second, third] {
        have.push(manager.result(&alice(), id).await.unwrap().is_some());
    }
    assert_eq!(have, [false, true, true]);
    let stats = manager.stats();
    assert_eq!((stats.result_bytes, stats.results_dropped, stats.retained), (1000, 3, 5));
}

#[tokio::test(start_paused = true)]
async fn no_result_is_dropped_for_one_that_does_not_fit_all_the_same() {
    let manager = TaskManager::builder().max_result_bytes(100).build();
    let kept = async |user, bytes| {
        let id = result(&manager, user, bytes);
        manager.wait(&Scope::user(user), id).await.unwrap().unwrap();
        id
    };
    let (of_bob, of_alice, too_much) =
        (kept("bob", 60).await, kept("alice", 30).await, kept("alice", 50).await);
    assert!(
        manager.result(&bob(), of_bob).await.unwrap().is_some()
            && manager.result(&alice(), of_alice).await.unwrap().is_some()
    );
    assert_eq!(manager.result(&alice(), too_much).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn one_user_cannot_take_all_the_room_for_results() {
    let manager = TaskManager::builder().max_result_bytes(1000).max_result_bytes_per_user(300).build();
    for _ in 0..20 {
        let id = result(&manager, "alice", 100);
        manager.wait(&alice(), id).await.unwrap().unwrap();
    }
    assert_eq!(manager.stats().result_bytes, 300);
    let id = result(&manager, "bob", 300);
    manager.wait(&bob(), id).await.unwrap().unwrap();
    assert!(manager.result(&bob(), id).await.unwrap().is_some());
}
