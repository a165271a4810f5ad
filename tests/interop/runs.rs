//! Who runs a session: AgentScope, or a host of ours with `Wakeups` and `Inbox`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_offload::bus::message::Wakeup;
use tower_offload::bus::{
    Closing, Entry, Inbox, LeaseOptions, LockExt, SharedBus, Wakeups, WakeupsHandle, keys,
};

use crate::both::Both;
use crate::inbox::delivery;
use crate::ours::bus;
use crate::patience::PATIENCE;
use crate::peer::Peer;
use crate::until;

type Read = Arc<Mutex<Vec<String>>>;

fn wake(session: &str) -> Wakeup {
    Wakeup::wake("alice", session, "agent")
}

fn text(entry: &Entry) -> String {
    let hint: Value = serde_json::from_str(&entry.payload).unwrap();
    hint["hint"].as_str().unwrap().to_owned()
}

/// A run, as the documentation of `Inbox` says.
async fn run(bus: SharedBus, wakeup: Wakeup, wakeups: WakeupsHandle, read: Read) {
    let now_or_never = LeaseOptions::new().max_wait(Duration::ZERO);
    let Ok(lease) = bus.lock(&keys::session_lock(&wakeup.session_id), now_or_never).await else {
        return wakeups.retry(wakeup);
    };
    read_all(bus, &wakeup, read).await;
    lease.release().await.unwrap();
}

async fn read_all(bus: SharedBus, wakeup: &Wakeup, read: Read) {
    let mut inbox = Inbox::open(bus, wakeup).await.unwrap();
    loop {
        let hints = inbox.drain(100).await.unwrap();
        read.lock().unwrap().extend(hints.iter().map(text));
        match inbox.close().await.unwrap() {
            Closing::Closed => break,
            Closing::Waiting(again) => inbox = again,
        }
    }
}

/// A host of ours, as long as the task lives.
fn host(bus: SharedBus, read: Read) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut wakeups = Wakeups::start(Arc::clone(&bus));
        while let Some(wakeup) = wakeups.recv().await {
            tokio::spawn(run(Arc::clone(&bus), wakeup, wakeups.handle(), Arc::clone(&read)));
        }
    })
}

async fn recv(wakeups: &mut Wakeups) -> Wakeup {
    tokio::time::timeout(PATIENCE, wakeups.recv()).await.expect("in time").unwrap()
}

#[tokio::test]
async fn a_session_is_run_by_one_at_a_time() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);

    // AgentScope is at it: we wait.
    peer.call("run", json!({"session": "S", "gate": "S"})).await;
    peer.event("run", |run| run["session_id"] == "S").await;
    let mut wakeups = Wakeups::start(Arc::clone(bus));
    peer.call("wake", json!({"session": "S"})).await;
    peer.call("wake", json!({"session": "other"})).await;
    assert_eq!(recv(&mut wakeups).await, wake("other"));
    assert_eq!(peer.events("run ended"), [Value::Null; 0]);
    peer.open("S").await;
    assert_eq!(recv(&mut wakeups).await, wake("S"));
    peer.event("run ended", |run| run["session_id"] == "S").await;
    wakeups.close().await.unwrap();

    // We are at it: AgentScope waits.
    let lease = bus.lock(&keys::session_lock("T"), LeaseOptions::new()).await.unwrap();
    peer.call("dispatch_wakeups", json!({})).await;
    peer.call("wake", json!({"session": "T"})).await;
    peer.call("wake", json!({"session": "other"})).await;
    peer.event("run ended", |run| run["session_id"] == "other").await;
    assert!(peer.events("run").iter().all(|run| run["session_id"] != "T"));
    lease.release().await.unwrap();
    peer.event("run ended", |run| run["session_id"] == "T").await;
    peer.is_unharmed().await;
}

#[tokio::test]
async fn while_we_read_agentscope_wakes_nobody() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let deliver = async |hint: &str| {
        peer.call("deliver", json!({"session": "S", "hint": hint})).await;
    };
    let inbox = Inbox::open(Arc::clone(bus), &wake("S")).await.unwrap();
    for hint in ["one", "two"] {
        deliver(hint).await;
    }
    assert_eq!(peer.wakeups().await, [Value::Null; 0]);
    let mut hints = inbox.drain(100).await.unwrap();
    assert_eq!(hints.iter().map(text).collect::<Vec<_>>(), ["one", "two"]);
    deliver("three").await;
    let Closing::Waiting(inbox) = inbox.close().await.unwrap() else { panic!("three is there") };
    inbox.hand_back(&mut hints).await.unwrap();

    // A run that failed: somebody else should look.
    drop(inbox);
    let woken = until(async || Some(peer.wakeups().await).filter(|wakeups| !wakeups.is_empty())).await;
    assert_eq!(woken, [json!(wake("S"))]);
    let mut left: Vec<_> = peer.drain("S").await.iter().map(|hint| hint["hint"].to_string()).collect();
    left.sort_unstable();
    assert_eq!(left, [r#""one""#, r#""three""#, r#""two""#]);

    // And one that has read it all.
    until(async || {
        let flag = bus.contains(&keys::inbox_consumer("S"), keys::CONSUMER_RUNNING).await.unwrap();
        (!flag).then_some(())
    })
    .await;
    let inbox = Inbox::open(Arc::clone(bus), &wake("S")).await.unwrap();
    assert!(matches!(inbox.close().await.unwrap(), Closing::Closed));
    deliver("four").await;
    assert_eq!(peer.wakeups().await, [json!(wake("S"))]);
    peer.is_unharmed().await;
}

/// A run of ours that ends while AgentScope delivers, again and again: nothing is left where nobody looks.
#[tokio::test]
async fn no_result_of_agentscope_is_left_behind() {
    const ROUNDS: usize = 150;
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let (read, mut woken) = (Read::default(), 0);
    for round in 0..ROUNDS {
        let hint = json!({"session": "S", "hint": round.to_string()});
        let running = async {
            // A delivery takes a few milliseconds; in some round each of its steps is met.
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(round as u64 * 773 % 6000) {
                tokio::task::yield_now().await;
            }
            read_all(Arc::clone(bus), &wake("S"), Arc::clone(&read)).await;
        };
        tokio::join!(peer.call("deliver", hint), running);
        let (left, wakeups) = (peer.drain("S").await, peer.wakeups().await);
        assert!(left.is_empty() || !wakeups.is_empty(), "round {round}: nobody will look for {left:?}");
        woken += wakeups.len();
        read.lock().unwrap().extend(left.iter().map(|hint| hint["hint"].as_str().unwrap().to_owned()));
    }
    let mut read: Vec<usize> = read.lock().unwrap().iter().map(|hint| hint.parse().unwrap()).collect();
    read.sort_unstable();
    assert_eq!(read, (0..ROUNDS).collect::<Vec<_>>(), "each of them once");
    assert!(woken > 0 && woken < ROUNDS, "some came in time and some too late: {woken}");
}

/// What carries something goes back as it came.
#[tokio::test]
async fn a_wakeup_that_we_put_back_is_as_good_as_new() {
    let both = Both::start().await;
    let (bus, peer) = (both.bus(), &both.peer);
    let mut wakeups = Wakeups::start(Arc::clone(bus));
    peer.call("interrupt_session", json!({"session": "S ü"})).await;
    let wakeup = recv(&mut wakeups).await;
    assert!(wakeup.kind == "resume" && wakeup.session_id == "S ü", "{wakeup:?}");
    let input = wakeup.input.clone().unwrap();
    wakeups.retry(wakeup);
    wakeups.close().await.unwrap();
    peer.call("dispatch_wakeups", json!({})).await;
    assert_eq!(peer.event("run", |_| true).await["input"], input);
    peer.is_unharmed().await;
}

/// Two processes of AgentScope and two hosts of ours run the agents of some sessions, and all of them deliver.
#[tokio::test]
async fn all_that_all_deliver_is_read_once() {
    const SESSIONS: usize = 5;
    const HINTS: usize = 300;
    let both = Both::start().await;
    let other = Peer::start(&both.redis.url()).await;
    let peers = [&both.peer, &other];
    for peer in peers {
        peer.call("dispatch_wakeups", json!({})).await;
    }
    let buses = [bus(&both.redis), bus(&both.redis)];
    let mine = Read::default();
    let hosts: Vec<_> = buses.iter().map(|bus| host(Arc::clone(bus), Arc::clone(&mine))).collect();
    let ours = async {
        for n in 0..HINTS {
            let hint = delivery(&format!("S{}", n % SESSIONS), &format!("ours {n}"));
            buses[n % 2].deliver(&hint).await.unwrap();
            // So that runs end in between.
            tokio::time::sleep(Duration::from_micros(n as u64 * 7919 % 6000)).await;
        }
    };
    let theirs = async {
        for n in 0..HINTS / 3 {
            let hint = json!({"session": format!("S{}", n % SESSIONS), "hint": format!("theirs {n}")});
            peers[n % 2].call("deliver", hint).await;
        }
    };
    tokio::join!(ours, theirs);
    let read = || {
        let runs = peers.iter().flat_map(|peer| peer.events("hints"));
        let hints = runs.flat_map(|run| crate::peer::array(run["hints"].clone()));
        let theirs = hints.map(|hint| hint["hint"].as_str().unwrap().to_owned());
        let mut read = BTreeMap::<String, usize>::new();
        for hint in theirs.chain(mine.lock().unwrap().iter().cloned()) {
            *read.entry(hint).or_default() += 1;
        }
        read
    };
    until(async || (read().len() == HINTS + HINTS / 3).then_some(())).await;
    assert!(read().values().all(|times| *times == 1), "{:?}", read());
    let by_us = mine.lock().unwrap().len();
    assert!(by_us > 0 && by_us < HINTS + HINTS / 3, "each did some of it: {by_us}");
    // And then there is rest.
    until(async || {
        let left = buses[0].len(keys::WAKEUPS).await.unwrap();
        let ended: usize = peers.iter().map(|peer| peer.events("run ended").len()).sum();
        let begun: usize = peers.iter().map(|peer| peer.events("run").len()).sum();
        (left == 0 && ended == begun).then_some(())
    })
    .await;
    for host in hosts {
        host.abort();
    }
    for peer in peers {
        peer.is_unharmed().await;
    }
}
