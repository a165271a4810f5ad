//! Results, and whom they wake.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::program::{Program, until};
use crate::service::{BRIEF, Service, agreed, brief, hints, is_over, told, without_dashes};

const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_process_drains_any_result_until_it_is_acknowledged() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let id = one.offload("alice", "Sleep", brief()).await;
    let hint = hints(two, "alice", "s1", 1).await;
    assert_eq!(told(&hint), [id.replace('-', "")]);
    assert!(hint[0].to_string().contains(&format!("slept for {BRIEF} s")));
    for process in [one, two, three] {
        assert_eq!(process.drain("alice").await, [Value::Null; 0]);
    }

    let mut ids = vec![id];
    for number in 0..30 {
        let process = [one, two][number % 2];
        let session = ["s1", "s2", "s3"][number % 3];
        let call = crate::program::tool_call("alice", session, "Sleep", &brief());
        let answer = process.send(call).await.json();
        ids.push(answer["metadata"]["task_id"].as_str().unwrap().to_owned());
    }
    // All at once, while they come. Two that read before one acknowledges get the same hint, with the same id.
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    until(async || {
        for session in ["s1", "s2", "s3"] {
            let drains = tokio::join!(
                one.drain_in("alice", session),
                two.drain_in("alice", session),
                three.drain_in("alice", session)
            );
            for hint in [drains.0, drains.1, drains.2].concat() {
                let id = hint["id"].as_str().unwrap().to_owned();
                let first = all.entry(id).or_insert_with(|| hint.clone());
                assert_eq!(*first, hint);
            }
        }
        (all.len() >= 30).then_some(())
    })
    .await;
    for (process, session) in [(one, "s1"), (two, "s2"), (three, "s3")] {
        assert_eq!(process.drain_in("alice", session).await, [Value::Null; 0]);
    }
    let all: Vec<_> = hint.into_iter().chain(all.into_values()).collect();
    assert_eq!(told(&all), without_dashes(&ids));
    let wakeups = service.wakeups();
    assert_eq!(wakeups.len(), 31, "one for each result, and nobody has taken them");
    let first =
        json!({"user_id": "alice", "session_id": "s1", "agent_id": "agent", "kind": "wake", "input": null});
    assert_eq!(wakeups[0], first);
    assert_eq!(service.wills("alice"), 0);
}

/// The sessions of the wakeups that are printed, until there are so many.
async fn printed(process: &mut Program, number: usize) -> Vec<String> {
    let mut sessions = Vec::new();
    while sessions.len() < number {
        let line = process.line().await.expect("more wakeups");
        let Some(wakeup) = line.strip_prefix("wakeup: ") else { continue };
        let wakeup: Value = serde_json::from_str(wakeup).unwrap();
        assert_eq!((&wakeup["user_id"], &wakeup["agent_id"]), (&json!("alice"), &json!("agent")));
        sessions.push(wakeup["session_id"].as_str().unwrap().to_owned());
    }
    sessions
}

#[tokio::test]
async fn a_process_that_consumes_wakeups_prints_each_once() {
    let service = Service::new(LEASE);
    let one = service.start().await;
    let sessions: BTreeSet<_> = (0..10).map(|number| format!("s{number}")).collect();
    for session in &sessions {
        one.offload_in("alice", session, "Sleep", brief()).await;
    }
    until(async || (service.wakeups().len() == 10).then_some(())).await;
    // Those that wait, and those that come.
    let mut two = service.start_with(&["--consume-wakeups"]).await;
    let first = printed(&mut two, 10).await;
    assert_eq!(first.iter().cloned().collect::<BTreeSet<_>>(), sessions);
    for number in 10..15 {
        one.offload_in("alice", &format!("s{number}"), "Sleep", brief()).await;
    }
    let second: BTreeSet<_> = printed(&mut two, 5).await.into_iter().collect();
    assert_eq!(second, (10..15).map(|number| format!("s{number}")).collect());
    let (code, rest) = two.end(Signal::SIGTERM).await;
    assert!(code == Some(0) && !rest.contains("wakeup"), "{rest}");
    assert_eq!(service.wakeups(), [Value::Null; 0]);
}

#[tokio::test]
async fn two_consumers_share_the_wakeups() {
    let service = Service::new(LEASE);
    let (one, two) =
        (service.start_with(&["--consume-wakeups"]).await, service.start_with(&["--consume-wakeups"]).await);
    let mut ids = Vec::new();
    for number in 0..12 {
        let process = [&one, &two][number % 2];
        ids.push(process.offload_in("alice", &format!("s{number}"), "Sleep", brief()).await);
    }
    for id in &ids {
        agreed(&[&one], "alice", id, is_over).await;
    }
    for number in 0..12 {
        hints(&one, "alice", &format!("s{number}"), 1).await;
    }
    // Ending puts back what was taken and not printed.
    let out = [one.end(Signal::SIGTERM).await.1, two.end(Signal::SIGTERM).await.1].concat();
    let printed = out.lines().filter(|line| line.starts_with("wakeup: ")).count();
    assert_eq!(printed + service.wakeups().len(), 12, "{out}");
}

#[tokio::test]
async fn wakeups_of_a_busy_session_are_put_back_by_a_consumer_that_ends() {
    let service = Service::new(LEASE);
    // Somebody runs the session.
    service.set("agentscope:session:lock:s1", "a runner");
    let one = service.start().await;
    let two = service.start_with(&["--consume-wakeups"]).await;
    one.offload("alice", "Sleep", brief()).await;
    hints(&one, "alice", "s1", 1).await;
    until(async || service.wakeups().is_empty().then_some(())).await;
    let (code, out) = two.end(Signal::SIGTERM).await;
    assert!(code == Some(0) && !out.contains("wakeup: "), "{out}");
    let expected =
        json!({"user_id": "alice", "session_id": "s1", "agent_id": "agent", "kind": "wake", "input": null});
    assert_eq!(service.wakeups(), [expected]);
}

#[tokio::test]
async fn the_inbox_of_a_session_is_the_first_users_on_every_process() {
    let service = Service::new(LEASE);
    let processes = service.three().await;
    let [one, two, three] = &processes;
    let of_alice = one.offload("alice", "Sleep", brief()).await;
    agreed(&[one, two, three], "alice", &of_alice, is_over).await;
    until(async || (service.stream("agentscope:inbox:s1").len() == 1).then_some(())).await;
    // The same session, by name, on another process.
    let of_bob = two.offload("bob", "Sleep", brief()).await;
    let again = two.offload("alice", "Sleep", brief()).await;
    agreed(&[one, two, three], "bob", &of_bob, is_over).await;
    until(async || (service.stream("agentscope:inbox:s1").len() == 2).then_some(())).await;
    until(async || (service.wakeups().len() == 3).then_some(())).await;
    let plain = told(&service.stream("agentscope:inbox:s1"));
    assert_eq!(plain, without_dashes([&of_alice, &again]));
    assert_eq!(told(&service.stream("agentscope:inbox:3/bob/s1")), without_dashes([&of_bob]));

    for process in [one, two, three] {
        assert_eq!(process.drain("mallory").await, [Value::Null; 0]);
        // Names that would lead to the inbox of another, if names were taken apart.
        for session in ["3%2Fbob%2Fs1", "5%2Falice%2Fs1", "lock:s1", "consumer:s1"] {
            assert_eq!(process.drain_in("mallory", session).await, [Value::Null; 0], "{session}");
        }
    }
    assert_eq!(told(&three.drain("bob").await), without_dashes([&of_bob]));
    assert_eq!(one.drain("bob").await, [Value::Null; 0]);
    assert_eq!(told(&three.drain("alice").await), plain);
    assert_eq!(one.drain("alice").await, [Value::Null; 0]);
}
