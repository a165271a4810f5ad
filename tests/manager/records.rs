//! Reading: order, scope, futures of one's own.

use tower_offload::manager::StopOutcome;
use tower_offload::task::{Outcome, Scope};
use tower_offload::{TaskManager, TaskMeta, TaskStatus};

use crate::support::{alice, bob, list, secs};

fn meta(user: &str, session: &str, name: &str) -> TaskMeta {
    TaskMeta::new(user, name).with_session(session)
}

async fn names(manager: &TaskManager, scope: &Scope) -> Vec<String> {
    list(manager, scope).await.iter().map(|task| task.meta.tool_name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_in_order_of_registration_whatever_ends_first() {
    let manager = TaskManager::new();
    for (name, seconds) in [("slow", 30), ("quick", 1), ("medium", 10)] {
        manager.spawn(meta("alice", "s1", name), tokio::time::sleep(secs(seconds))).unwrap();
    }
    for _ in 0..4 {
        assert_eq!(names(&manager, &alice()).await, ["slow", "quick", "medium"]);
        tokio::time::sleep(secs(11)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_shows_what_is_inside_and_nothing_else() {
    let manager = TaskManager::new();
    let tasks =
        [("alice", "s1"), ("alice", "s2"), ("bob", "s1"), ("alice", ""), ("bob", "s1"), ("alice", "s1")];
    for (n, (user, session)) in tasks.into_iter().enumerate() {
        let name = n.to_string();
        manager.spawn(meta(user, session, &name), std::future::pending::<()>()).unwrap();
    }
    assert_eq!(names(&manager, &alice()).await, ["0", "1", "3", "5"]);
    assert_eq!(names(&manager, &bob()).await, ["2", "4"]);
    assert_eq!(names(&manager, &alice().in_session("s1")).await, ["0", "5"]);
    assert_eq!(names(&manager, &alice().in_session("")).await, ["3"]);
    assert_eq!(names(&manager, &bob().in_session("s2")).await, [""; 0]);
    assert_eq!(names(&manager, &Scope::session("s1")).await, ["0", "2", "4", "5"]);
    assert_eq!(names(&manager, &Scope::user("Alice")).await, [""; 0]);
    assert_eq!(names(&manager, &Scope::user("")).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_owner_is_no_owner() {
    let manager = TaskManager::new();
    let of_alice = manager.spawn(meta("alice", "", "0"), std::future::pending::<()>()).unwrap().id;
    let of_bob = manager.spawn(meta("bob", "", "1"), std::future::pending::<()>()).unwrap().id;
    let of_none = manager.spawn(meta("", "", "2"), std::future::pending::<()>()).unwrap().id;
    let mut changes = manager.subscribe(Scope::session(""));
    for scope in [Scope::session(""), Scope::user(""), Scope::user("").in_session("")] {
        assert_eq!(names(&manager, &scope).await, [""; 0], "{scope:?}");
        assert_eq!(manager.stop_all(&scope).await.unwrap(), 0);
        for id in [of_alice, of_bob, of_none] {
            assert!(manager.get(&scope, id).await.unwrap().is_none());
            assert!(manager.wait(&scope, id).await.unwrap().is_none());
            assert_eq!(manager.stop(&scope, id).await.unwrap(), StopOutcome::NotFound);
        }
    }
    assert_eq!(manager.stop_all(&alice().in_session("")).await.unwrap(), 1);
    manager.wait(&alice(), of_alice).await.unwrap().unwrap();
    assert!(futures_util::FutureExt::now_or_never(changes.recv()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_future_of_ones_own_ends_as_it_says() {
    let manager = TaskManager::new();
    let (ok, unit) = (async { Ok::<_, String>(7) }, async {});
    let (err, outcome) = (async { Err::<(), _>("no space") }, async { Outcome::failed("said no") });
    let ids = [
        manager.spawn(meta("alice", "", "ok"), ok).unwrap().id,
        manager.spawn(meta("alice", "", "unit"), unit).unwrap().id,
        manager.spawn(meta("alice", "", "err"), err).unwrap().id,
        manager.spawn(meta("alice", "", "outcome"), outcome).unwrap().id,
        manager.spawn(meta("alice", "", "panic"), async { panic!("boom") as () }).unwrap().id,
    ];
    let mut ends = Vec::new();
    for id in ids {
        let task = manager.wait(&alice(), id).await.unwrap().unwrap();
        ends.push((task.status, task.error_summary.as_deref().unwrap_or_default().to_owned()));
    }
    let failed = |text: &str| (TaskStatus::Failed, text.to_owned());
    let completed = (TaskStatus::Completed, String::new());
    assert_eq!(ends, [completed.clone(), completed, failed("no space"), failed("said no"), failed("boom")]);
}

#[tokio::test(start_paused = true)]
async fn running_tasks_outlive_the_last_handle() {
    let manager = TaskManager::new();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    manager
        .spawn(meta("alice", "", "work"), async {
            tokio::time::sleep(secs(5)).await;
            sender.send("done").map_err(|_| "nobody waits")
        })
        .unwrap();
    drop(manager);
    assert_eq!(receiver.await, Ok("done"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_in_the_runtime_when_the_manager_is_gone() {
    let manager = TaskManager::new();
    let task = manager.spawn(meta("alice", "", "work"), async {}).unwrap();
    manager.wait(&alice(), task.id).await.unwrap().unwrap();
    crate::support::run_ready().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 1, "the one that waits for the end of the retention");
    drop(manager);
    crate::support::run_ready().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[test]
fn a_manager_can_be_given_the_runtime_to_work_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let manager = TaskManager::builder().runtime(runtime.handle().clone()).build();
    let (sender, receiver) = std::sync::mpsc::channel();
    let work = async move { sender.send(std::thread::current().name().map(str::to_owned)) };
    manager.spawn(meta("alice", "", "work"), work).unwrap();
    assert!(receiver.recv().unwrap().is_some_and(|thread| thread.starts_with("tokio")));
}
