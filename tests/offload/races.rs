//! Things that happen at one instant: each ends in exactly one terminal state and one delivery.

use std::convert::Infallible;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::manager::StopOutcome;
use tower_offload::offload::OnDisconnect;
use tower_offload::task::FailureReason;
use tower_offload::{OffloadLayer, TaskManager, TaskRecord, TaskStatus};

use crate::support::{Alive, Deliveries, SECOND, alice, list, meta, run_ready, secs};

struct Fixture {
    manager: TaskManager,
    alive: Alive,
    deliveries: Deliveries<&'static str>,
    service: tower::util::BoxCloneService<u64, &'static str, Infallible>,
}

fn fixture(on_disconnect: OnDisconnect) -> Fixture {
    let manager = TaskManager::builder().max_retained_per_user(10_000).build();
    let (alive, deliveries) = (Alive::default(), Deliveries::new());
    let layer = OffloadLayer::new(manager.clone(), secs(10))
        .describe(|_: &u64| Some(meta()))
        .respond(|_: &TaskRecord| "placeholder")
        .deliver(deliveries.hook())
        .on_disconnect(on_disconnect);
    let watched = alive.clone();
    let service = ServiceBuilder::new().layer(layer).service(service_fn(move |seconds| {
        let guard = watched.guard();
        async move {
            let _guard = guard;
            tokio::time::sleep(secs(seconds)).await;
            Ok("done")
        }
    }));
    Fixture { manager, alive, deliveries, service: tower::util::BoxCloneService::new(service) }
}

/// All that must hold when everything is over.
async fn settled(fixture: &Fixture) -> Vec<TaskRecord> {
    run_ready().await;
    let Fixture { manager, alive, deliveries, .. } = fixture;
    let tasks = list(manager, &alice()).await;
    let delivered = deliveries.take();
    assert_eq!(delivered.len(), tasks.len(), "one delivery each");
    for task in &tasks {
        assert!(task.status.is_terminal());
        assert_eq!(delivered.iter().filter(|(of, _)| of == task).count(), 1);
    }
    let stats = manager.stats();
    assert_eq!((stats.running, stats.active, stats.late), (0, 0, 0));
    assert_eq!(stats.completed + stats.failed + stats.cancelled, tasks.len() as u64);
    assert_eq!(alive.count(), 0, "no future is left");
    tasks
}

/// `n` calls of `seconds` each, at one instant.
fn start(fixture: &Fixture, n: usize, seconds: u64) -> Vec<tokio::task::JoinHandle<&'static str>> {
    (0..n)
        .map(|_| {
            let call = fixture.service.clone().oneshot(seconds);
            tokio::spawn(async { call.await.unwrap() })
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn completion_against_the_deadline() {
    let fixture = fixture(OnDisconnect::Cancel);
    let calls = start(&fixture, 100, 10);
    for call in calls {
        assert_eq!(call.await.unwrap(), "done", "an answer at the deadline is not late");
    }
    assert_eq!(settled(&fixture).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_hand_overs_at_one_instant() {
    let fixture = fixture(OnDisconnect::Cancel);
    for call in start(&fixture, 100, 20) {
        assert_eq!(call.await.unwrap(), "placeholder");
    }
    let ids: std::collections::HashSet<_> =
        list(&fixture.manager, &alice()).await.into_iter().map(|task| task.id).collect();
    assert_eq!(ids.len(), 100);
    tokio::time::sleep(secs(10)).await;
    let tasks = settled(&fixture).await;
    assert!(tasks.iter().all(|task| task.status == TaskStatus::Completed));
}

#[tokio::test(start_paused = true)]
async fn completion_against_stop() {
    // Stopped just before, at, and just after the end: by whole milliseconds, the timer's own step.
    for millis in [9_999, 10_000, 10_001] {
        let fixture = fixture(OnDisconnect::Cancel);
        for call in start(&fixture, 100, 20) {
            call.await.unwrap();
        }
        let tasks = list(&fixture.manager, &alice()).await;
        tokio::time::sleep(SECOND * millis / 1000).await;
        let mut stopped = 0;
        for task in tasks {
            match fixture.manager.stop(&alice(), task.id).await.unwrap() {
                StopOutcome::Requested => stopped += 1,
                StopOutcome::AlreadyFinished(task) => assert_eq!(task.status, TaskStatus::Completed),
                other => panic!("{other:?}"),
            }
        }
        let tasks = settled(&fixture).await;
        let cancelled = tasks.iter().filter(|task| task.status == TaskStatus::Cancelled).count();
        match millis {
            9_999 => assert_eq!((stopped, cancelled), (100, 100)),
            10_001 => assert_eq!((stopped, cancelled), (0, 0)),
            // A request may come too late to have an effect, but never the other way round.
            _ => assert!(cancelled <= stopped),
        }
        for task in tasks {
            assert_eq!(
                task.cancel_requested_at.is_some(),
                task.status == TaskStatus::Cancelled || stopped > 0
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stop_against_stop() {
    let fixture = fixture(OnDisconnect::Cancel);
    for call in start(&fixture, 10, 60) {
        call.await.unwrap();
    }
    let tasks = list(&fixture.manager, &alice()).await;
    let stops = tasks.iter().flat_map(|task| {
        (0..100).map(|_| {
            let (manager, id) = (fixture.manager.clone(), task.id);
            tokio::spawn(async move { manager.stop(&alice(), id).await.unwrap() })
        })
    });
    let sessions = fixture.manager.stop_all(&alice().in_session("s1")).await.unwrap();
    assert_eq!(sessions, 10);
    for outcome in futures_util::future::join_all(stops).await {
        assert!(matches!(outcome.unwrap(), StopOutcome::Requested | StopOutcome::AlreadyFinished(_)));
    }
    let tasks = settled(&fixture).await;
    assert!(tasks.iter().all(|task| task.status == TaskStatus::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn disconnect_against_the_deadline() {
    for on_disconnect in [OnDisconnect::Cancel, OnDisconnect::HandOver] {
        for millis in [9_999, 10_000, 10_001] {
            let fixture = fixture(on_disconnect);
            let calls = start(&fixture, 100, 20);
            tokio::time::sleep(SECOND * millis / 1000).await;
            for call in &calls {
                call.abort();
            }
            for call in calls {
                // Answered in time, or gone.
                let _ = call.await;
            }
            tokio::time::sleep(secs(30)).await;
            let tasks = settled(&fixture).await;
            assert!(tasks.iter().all(|task| task.status == TaskStatus::Completed));
            match (on_disconnect, millis) {
                (OnDisconnect::Cancel, 9_999) => assert_eq!(tasks.len(), 0),
                (OnDisconnect::HandOver, _) | (_, 10_001) => assert_eq!(tasks.len(), 100),
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn completion_against_disconnect() {
    for on_disconnect in [OnDisconnect::Cancel, OnDisconnect::HandOver] {
        let fixture = fixture(on_disconnect);
        let calls = start(&fixture, 100, 5);
        tokio::time::sleep(secs(5)).await;
        for call in &calls {
            call.abort();
        }
        let answered = futures_util::future::join_all(calls).await.iter().filter(|call| call.is_ok()).count();
        tokio::time::sleep(secs(5)).await;
        let tasks = settled(&fixture).await;
        match on_disconnect {
            OnDisconnect::Cancel => assert_eq!(tasks.len(), 0),
            _ => assert_eq!(tasks.len(), 100 - answered, "never neither"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn completion_against_shutdown() {
    for millis in [9_999, 10_000, 10_001] {
        let fixture = fixture(OnDisconnect::Cancel);
        for call in start(&fixture, 100, 20) {
            call.await.unwrap();
        }
        let report = fixture.manager.shutdown(SECOND * millis / 1000).await;
        assert_eq!(report.completed + report.cancelled, 100);
        assert_eq!((report.failed, report.unsettled, report.undelivered), (0, 0, 0));
        let tasks = settled(&fixture).await;
        let cancelled: Vec<_> = tasks.iter().filter(|task| task.status == TaskStatus::Cancelled).collect();
        assert_eq!(cancelled.len(), report.cancelled);
        assert!(cancelled.iter().all(|task| task.failure_reason == Some(FailureReason::Shutdown)));
        match millis {
            9_999 => assert_eq!(report.cancelled, 100),
            10_001 => assert_eq!(report.completed, 100),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_against_shutdown() {
    let fixture = fixture(OnDisconnect::Cancel);
    let calls = start(&fixture, 100, 20);
    tokio::time::sleep(secs(10)).await;
    let report = fixture.manager.shutdown(secs(60)).await;
    let answers = futures_util::future::join_all(calls).await;
    let placeholders = answers.iter().filter(|answer| *answer.as_ref().unwrap() == "placeholder").count();
    // Handed over before the shutdown, or answered in the foreground after it.
    assert_eq!(report.completed, placeholders);
    assert_eq!(settled(&fixture).await.len(), placeholders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_threads_settle_every_task_once() {
    let fixture = fixture(OnDisconnect::Cancel);
    let mut racers = Vec::new();
    for n in 0..2000_u64 {
        let manager = fixture.manager.clone();
        racers.push(tokio::spawn(async move {
            let (done, wait) = tokio::sync::oneshot::channel::<()>();
            let task = manager.spawn(meta(), async { wait.await.map_err(|_| "gone") }).unwrap();
            let id = task.id;
            let stop = {
                let manager = manager.clone();
                async move { manager.stop(&alice(), id).await }
            };
            match n % 3 {
                0 => drop(tokio::spawn(stop)),
                1 => drop(tokio::spawn(async move { done.send(()) })),
                _ => {
                    tokio::spawn(stop);
                    tokio::spawn(async move { done.send(()) });
                }
            }
            manager.wait(&alice(), task.id).await.unwrap().unwrap()
        }));
    }
    let mut ended = [0_u64; 3];
    for racer in racers {
        match racer.await.unwrap().status {
            TaskStatus::Completed => ended[0] += 1,
            TaskStatus::Failed => ended[1] += 1,
            TaskStatus::Cancelled => ended[2] += 1,
            TaskStatus::Running => panic!("not ended"),
        }
    }
    let stats = fixture.manager.stats();
    assert_eq!([stats.completed, stats.failed, stats.cancelled], ended);
    assert_eq!((stats.running, stats.late), (0, 0));
}
