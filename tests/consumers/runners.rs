//! Wakeups, locks and inboxes together, on real threads: every result reaches a run, and one only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{
    Closing, Inbox, LeaseOptions, LockExt, MemoryBus, MessageBus, Queue, SharedBus, Wakeups, WakeupsHandle,
    keys,
};

use crate::common::{MILLIS, delivery, is_consumed};
use crate::patience::PATIENCE;

/// Runs a session as the documentation says. Every seventh run fails with what it has drained in hand.
async fn run(
    bus: SharedBus,
    wakeup: Wakeup,
    wakeups: WakeupsHandle,
    runs: Arc<AtomicUsize>,
    seen: mpsc::UnboundedSender<String>,
) {
    let once = LeaseOptions::new().max_wait(Duration::ZERO);
    let Ok(lease) = bus.lock(&keys::session_lock(&wakeup.session_id), once).await else {
        wakeups.retry(wakeup);
        return;
    };
    let mut inbox = Inbox::open(bus, &wakeup).await.unwrap();
    let fails = runs.fetch_add(1, Ordering::Relaxed) % 7 == 6;
    loop {
        let mut entries = inbox.drain(5).await.unwrap();
        if fails {
            inbox.hand_back(&mut entries).await.unwrap();
            return;
        }
        if entries.is_empty() {
            match inbox.close().await.unwrap() {
                Closing::Closed => break,
                Closing::Waiting(again) => inbox = again,
            }
        }
        for entry in entries {
            seen.send(format!("{} {}", wakeup.session_id, entry.payload)).unwrap();
        }
    }
    lease.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_result_reaches_one_run() {
    const SESSIONS: usize = 20;
    const RESULTS: usize = 100;
    let memory = MemoryBus::new();
    let bus: SharedBus = Arc::new(memory.clone());
    let (runs, (sender, mut receiver)) = (Arc::<AtomicUsize>::default(), mpsc::unbounded_channel());
    let hosts: Vec<_> = (0..2)
        .map(|_| {
            let (bus, runs, sender) = (Arc::clone(&bus), Arc::clone(&runs), sender.clone());
            let wakeups = Wakeups::builder(Arc::clone(&bus)).batch(8).backoff(MILLIS, MILLIS * 20);
            let mut wakeups = wakeups.poll_every(MILLIS * 200).start();
            tokio::spawn(async move {
                while let Some(wakeup) = wakeups.recv().await {
                    let run = run(bus.clone(), wakeup, wakeups.handle(), runs.clone(), sender.clone());
                    tokio::spawn(run);
                }
            })
        })
        .collect();
    let producers: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let bus = Arc::clone(&bus);
            tokio::spawn(async move {
                for result in 0..RESULTS {
                    bus.deliver(&delivery(&format!("s{session}"), &result.to_string())).await.unwrap();
                    if result % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();

    let mut seen = Vec::new();
    while seen.len() < SESSIONS * RESULTS {
        let next = tokio::time::timeout(PATIENCE, receiver.recv());
        seen.push(next.await.expect("no result is stranded").unwrap());
    }
    for producer in producers {
        producer.await.unwrap();
    }
    // Whatever still runs finds nothing more, and all flags go down.
    for session in 0..SESSIONS {
        let name = format!("s{session}");
        crate::common::until(async || !is_consumed(&memory as &dyn MessageBus, &name).await).await;
        assert_eq!(memory.len(&keys::inbox(&name)).await.unwrap(), 0);
    }
    assert!(receiver.try_recv().is_err(), "no result comes twice");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), SESSIONS * RESULTS);
    hosts.into_iter().for_each(|host| host.abort());
}
