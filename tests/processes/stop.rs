use tower_offload::bus::{Directory, PubSub, Registry, keys};
use tower_offload::manager::StopOutcome;
use tower_offload::task::Scope;
use tower_offload::{CancelDispatcher, TaskId, TaskMeta, TaskStatus};

use crate::support::{Alive, alice, bob, meta, run_ready, secs};
use crate::{pass, two};

#[tokio::test(start_paused = true)]
async fn a_task_is_stopped_from_another_process() {
    let (_bus, one, other) = two();
    let _dispatcher = CancelDispatcher::start(&one.manager).await.unwrap();
    let task = one.forever(meta());
    let id = task.id;
    run_ready().await;
    // The session of the task has it on its list, whoever asks.
    for scope in [bob(), bob().in_session("s1"), alice().in_session("s2"), Scope::session("s2")] {
        assert_eq!(other.manager.stop(&scope, id).await.unwrap(), StopOutcome::NotFound);
    }
    assert_eq!(one.get(&alice(), &task).await.unwrap(), task);
    assert_eq!(other.manager.stop(&alice(), id).await.unwrap(), StopOutcome::RequestedElsewhere);
    run_ready().await;
    let seen = other.get(&alice(), &task).await.unwrap();
    assert_eq!(seen.status, TaskStatus::Cancelled);
    assert!(seen.cancel_requested_at.is_some());
    for process in [&one, &other] {
        let again = process.manager.stop(&alice(), id).await.unwrap();
        assert_eq!(again, StopOutcome::AlreadyFinished(seen.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_shown_before_the_owner_has_heard_of_it() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    for _ in 0..2 {
        let outcome = other.manager.stop(&alice(), task.id).await.unwrap();
        assert_eq!(outcome, StopOutcome::RequestedElsewhere);
    }
    for process in [&one, &other] {
        let seen = process.get(&alice(), &task).await.unwrap();
        assert_eq!(seen.status, TaskStatus::Running);
        assert!(seen.cancel_requested_at.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_nobody_heard_is_found_within_a_lease() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    pass(secs(16)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

/// The answer that is lost may have been that the lease had ended, with all that was on the bus.
#[tokio::test(start_paused = true)]
async fn a_process_looks_at_once_when_the_answer_to_a_write_is_lost() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    one.bus.lose_answers(1);
    one.forever(meta());
    // Much less than a lease.
    pass(secs(1)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_process_looks_at_once_when_its_lease_had_ended() {
    let (bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    let stored = bus.task("alice", task.id, secs(15)).await.unwrap().unwrap();
    bus.leave(&stored.owner).await.unwrap();
    one.forever(meta());
    // Much less than a lease.
    pass(secs(1)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_writes_all_the_time_finds_it_too() {
    let (_bus, one, other) = two();
    let task = one.forever(meta());
    run_ready().await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    for _ in 0..20 {
        one.manager.spawn(meta(), async {}).unwrap();
        pass(secs(1)).await;
    }
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_stop_asked_for_while_the_owner_was_cut_off_is_honoured_when_it_is_back() {
    let (_bus, one, other) = two();
    let _dispatcher = CancelDispatcher::start(&one.manager).await.unwrap();
    let task = one.forever(meta());
    let kept = one.forever(meta());
    run_ready().await;
    one.bus.disconnect();
    pass(secs(6)).await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    pass(secs(6)).await;
    assert_eq!(one.manager.stats().running, 2);
    one.bus.reconnect();
    // As soon as it is back, and not with the next look.
    pass(secs(2)).await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
    assert_eq!(other.get(&alice(), &kept).await.unwrap().status, TaskStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_starts_without_a_bus_listens_when_it_is_there() {
    let (_bus, one, other) = two();
    one.bus.disconnect();
    let _dispatcher = CancelDispatcher::builder(&one.manager).start_in_background();
    let task = one.forever(meta());
    pass(secs(3)).await;
    one.bus.reconnect();
    pass(secs(10)).await;
    other.manager.stop(&alice(), task.id).await.unwrap();
    run_ready().await;
    assert_eq!(other.get(&alice(), &task).await.unwrap().status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_cancelled_in_all_processes() {
    for scope in [alice().in_session("s1"), Scope::session("s1"), alice()] {
        let (_bus, one, other) = two();
        let _dispatcher = CancelDispatcher::start(&one.manager).await.unwrap();
        for process in [&one, &one, &other] {
            process.forever(meta());
        }
        let ended = one.manager.spawn(meta(), async {}).unwrap();
        let of_bob = one.forever(TaskMeta::new("bob", "work").with_session("s2"));
        if scope.session_id().is_some() {
            one.forever(meta().with_session("s2"));
        }
        run_ready().await;
        assert_eq!(other.manager.stop_all(&scope).await.unwrap(), 3, "{scope:?}");
        run_ready().await;
        for task in other.list(&alice()).await {
            let expected = match task.meta.session_id() {
                "s2" => TaskStatus::Running,
                _ if task.id == ended.id => TaskStatus::Completed,
                _ => TaskStatus::Cancelled,
            };
            assert_eq!(task.status, expected);
        }
        assert_eq!(one.get(&bob(), &of_bob).await.unwrap(), of_bob);
        assert_eq!(other.manager.stop_all(&scope).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_two_users_share_is_cancelled_for_one_of_them() {
    let (_bus, one, other) = two();
    let _dispatcher = CancelDispatcher::start(&one.manager).await.unwrap();
    let of_alice = one.forever(meta());
    let of_bob = one.forever(TaskMeta::new("bob", "work").with_session("s1"));
    run_ready().await;
    assert_eq!(other.manager.stop_all(&alice().in_session("s1")).await.unwrap(), 1);
    run_ready().await;
    assert_eq!(other.get(&alice(), &of_alice).await.unwrap().status, TaskStatus::Cancelled);
    assert_eq!(other.get(&bob(), &of_bob).await.unwrap().status, TaskStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_task_of_agentscope_is_asked_over_the_bus() {
    let (bus, one, _other) = two();
    bus.set(&keys::background_tasks("s1"), "CXc85b4rqinB7s5J52TRYb", "{}", None).await.unwrap();
    let mut cancels = bus.subscribe(&[keys::TASK_CANCEL]).await.unwrap();
    for (scope, id) in [(alice().in_session("s2"), "CXc85b4rqinB7s5J52TRYb"), (alice().in_session("s1"), "x")]
    {
        assert_eq!(one.manager.stop_foreign(&scope, id).await.unwrap(), StopOutcome::NotFound);
    }
    let outcome =
        one.manager.stop_foreign(&alice().in_session("s1"), "CXc85b4rqinB7s5J52TRYb").await.unwrap();
    assert_eq!(outcome, StopOutcome::RequestedElsewhere);
    let tower_offload::bus::SubscriptionEvent::Message(message) = cancels.recv().await.unwrap() else {
        panic!("a message was expected");
    };
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    assert_eq!(payload["task_id"], "CXc85b4rqinB7s5J52TRYb");
}

#[tokio::test(start_paused = true)]
async fn stopping_what_runs_here_needs_no_bus() {
    let (_bus, one, _other) = two();
    let alive = Alive::default();
    let guard = alive.guard();
    let work = async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    };
    let task = one.manager.spawn(meta(), work).unwrap();
    one.bus.disconnect();
    assert_eq!(one.manager.stop(&alice(), task.id).await.unwrap(), StopOutcome::Requested);
    run_ready().await;
    assert_eq!(alive.count(), 0);
    assert!(one.manager.stop(&alice(), TaskId::new()).await.is_err());
    // The end counts when other processes can see it.
    one.bus.reconnect();
    let ended = one.manager.wait(&alice(), task.id).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Cancelled);
}
