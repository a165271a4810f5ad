//! All processes are replaced, one after the other, while they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::program::{Program, tool_call, until};
use crate::service::{Service, is_over, same, sleep, told, without_dashes};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const SESSIONS: [&str; 2] = ["s1", "s2"];
const CALLERS: usize = 12;

/// Those who call, wherever somebody listens, and what they were promised.
#[derive(Clone, Default)]
struct Load {
    addresses: Arc<RwLock<Vec<String>>>,
    accepted: Arc<Mutex<BTreeMap<&'static str, BTreeSet<String>>>>,
    number: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Load {
    async fn call(self, caller: usize) {
        for turn in caller.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let (user, session) = (USERS[turn % USERS.len()], SESSIONS[turn / 4 % SESSIONS.len()]);
            let address = {
                let addresses = self.addresses.read().unwrap();
                addresses[turn % addresses.len()].clone()
            };
            // Some end before the process does, and some do not.
            let time = sleep(0.3 + 0.25 * (turn % 7) as f64);
            let answer = tool_call(user, session, "Sleep", &time).try_send(&address).await;
            let Some(answer) = answer.filter(|answer| answer.status == 200) else {
                // It goes just now: to another one.
                tokio::task::yield_now().await;
                continue;
            };
            // A process that goes hands nothing over any more: the result itself is as good.
            if let Some(id) = answer.json()["metadata"]["task_id"].as_str() {
                let fresh = self.accepted.lock().unwrap().entry(user).or_default().insert(id.to_owned());
                assert!(fresh, "an id is used twice");
                self.number.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn more(&self, tasks: usize) {
        let goal = self.number.load(Ordering::Relaxed) + tasks;
        until(async || (self.number.load(Ordering::Relaxed) >= goal).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_and_tells_nothing_twice() {
    let service = Service::settled(Duration::from_secs(6)).await;
    let args = ["--timeout-secs", "0.1", "--shutdown-secs", "0.7", "--max-retained", "100000"];
    let mut processes: Vec<Program> = service.three_with(&args).await.into();
    let load = Load::default();
    *load.addresses.write().unwrap() = processes.iter().map(|process| process.address.clone()).collect();
    let callers: Vec<_> = (0..CALLERS).map(|caller| tokio::spawn(load.clone().call(caller))).collect();
    load.more(30).await;
    let mut cancelled = 0;
    for _ in 0..3 {
        // The oldest, which goes on being called.
        let (code, printed) = processes.remove(0).end(Signal::SIGTERM).await;
        assert_eq!(code, Some(0), "{printed}");
        let last = printed.lines().last().unwrap();
        assert!(last.starts_with("shut down: ") && last.contains("0 failed"), "{last}");
        assert!(last.ends_with("0 unsettled, 0 undelivered"), "{last}");
        let words: Vec<&str> = last.split_whitespace().collect();
        let place = words.iter().position(|word| word.starts_with("cancelled")).unwrap();
        cancelled += words[place - 1].parse::<usize>().unwrap();
        processes.push(service.start_with(&args).await);
        let now: Vec<_> = processes.iter().map(|process| process.address.clone()).collect();
        *load.addresses.write().unwrap() = now;
        load.more(30).await;
    }
    load.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }

    let all: Vec<&Program> = processes.iter().collect();
    let accepted = std::mem::take(&mut *load.accepted.lock().unwrap());
    let mut by_shutdown = 0;
    let mut total = 0;
    for user in USERS {
        for process in &all {
            until(async || {
                let list = process.get(user, "/background-tasks").await.json();
                list["tasks"].as_array().unwrap().iter().all(is_over).then_some(())
            })
            .await;
        }
        let list = same(&all, user, "/background-tasks").await.json();
        let tasks = list["tasks"].as_array().unwrap();
        let ids: BTreeSet<String> =
            tasks.iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!((ids.len(), list["total"].as_u64()), (tasks.len(), Some(tasks.len() as u64)));
        // A placeholder that did not reach its caller is of a task all the same.
        assert!(accepted[user].is_subset(&ids), "{:?}", accepted[user].difference(&ids));
        for task in tasks {
            match (task["status"].as_str().unwrap(), task["failure_reason"].as_str()) {
                ("completed", None) => {}
                ("cancelled", Some("shutdown")) => by_shutdown += 1,
                other => panic!("{other:?}: {task}"),
            }
        }
        check_hints(&all, user, tasks, &ids).await;
        assert_eq!(service.wills(user), 0);
        total += tasks.len();
    }
    assert_eq!(by_shutdown, cancelled, "as they have said when they went");
    assert!(cancelled > 0, "the restart should hit something");
    assert_eq!(service.wakeups().len(), total, "one for each result");
    for session in SESSIONS {
        assert_eq!(service.registry(session), [""; 0]);
    }
    assert_eq!(service.owners(), 3, "those that have gone have said so");
}

/// Each task is told of once, and as what it was.
async fn check_hints(all: &[&Program], user: &str, tasks: &[Value], ids: &BTreeSet<String>) {
    let mut hints = Vec::new();
    until(async || {
        for process in all {
            for session in SESSIONS {
                hints.extend(process.drain_in(user, session).await);
            }
        }
        (hints.len() >= tasks.len()).then_some(())
    })
    .await;
    assert_eq!(told(&hints), without_dashes(ids));
    let status: BTreeMap<_, _> = tasks
        .iter()
        .map(|task| (task["task_id"].as_str().unwrap().replace('-', ""), task["status"] == "completed"))
        .collect();
    for hint in hints {
        let text = hint["hint"].to_string();
        let completed = status[hint["id"].as_str().unwrap()];
        assert_eq!(text.contains("has completed"), completed, "{text}");
        assert_eq!(text.contains("was stopped because the process shut down"), !completed, "{text}");
    }
}
