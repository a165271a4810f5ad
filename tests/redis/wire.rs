//! What is on the server, byte for byte, as AgentScope's processes write and read it.

use std::time::Duration;

use futures_util::StreamExt;
use tower_offload::RedisBus;
use tower_offload::bus::{EntryId, Lock, Log, MessageBus, PubSub, Queue, Registry, keys};

use crate::redis_server::RedisServer;
use crate::tools::{Plain, bus, delivery, message, payload, soon, until};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// The commands that the server runs, from now on.
struct Monitor {
    lines: std::pin::Pin<Box<dyn futures_util::Stream<Item = String> + Send>>,
    plain: Plain,
}

impl Monitor {
    async fn of(server: &RedisServer) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        let monitor = client.get_async_monitor().await.unwrap();
        Self { lines: Box::pin(monitor.into_on_message::<String>()), plain: Plain::new(server).await }
    }

    /// What was run since it was asked last: words, unquoted, without those of scripts' callers.
    async fn heard(&mut self) -> Vec<String> {
        let () = self.plain.run(&["ECHO", "the end"]).await;
        let mut heard = Vec::new();
        loop {
            let line = soon(self.lines.next()).await.expect("the server lives");
            let (_, words) = line.split_once("] ").unwrap();
            let words = words.trim_matches('"').replace("\" \"", " ").replace("\\\"", "\"");
            match words.split(' ').next().unwrap() {
                "ECHO" => return heard,
                "HELLO" | "CLIENT" | "EVAL" | "EVALSHA" => {}
                _ => heard.push(words),
            }
        }
    }
}

#[tokio::test]
async fn plain_calls_are_the_commands_of_the_contract() {
    let server = RedisServer::start();
    let (bus, mut monitor) = (bus(&server), Monitor::of(&server).await);
    let second = Duration::from_secs(1);
    monitor.heard().await;

    bus.set("ns", "f", "v", None).await.unwrap();
    bus.get("ns", "f").await.unwrap();
    bus.get_all("ns").await.unwrap();
    bus.contains("ns", "f").await.unwrap();
    bus.remove("ns", "f").await.unwrap();
    bus.clear("ns").await.unwrap();
    let expected = ["HSET ns f v", "HGET ns f", "HGETALL ns", "HEXISTS ns f", "HDEL ns f", "DEL ns"];
    assert_eq!(monitor.heard().await, expected);

    bus.push("q", "{}", None).await.unwrap();
    bus.len("q").await.unwrap();
    bus.delete("q").await.unwrap();
    assert_eq!(monitor.heard().await, ["XADD q * payload {}", "XLEN q", "DEL q"]);

    let place = EntryId { millis: 7, sequence: 8 };
    bus.append("l", "{}", None, None).await.unwrap();
    bus.append("l", "{}", None, Some(1000)).await.unwrap();
    bus.read("l", None, 9).await.unwrap();
    bus.read("l", Some(place), usize::MAX).await.unwrap();
    bus.trim("l", Some(place)).await.unwrap();
    let expected = [
        "XADD l * payload {}",
        "XADD l MAXLEN ~ 1000 * payload {}",
        "XRANGE l - + COUNT 9",
        "XRANGE l (7-8 + COUNT 9223372036854775807",
        "XTRIM l MINID ~ 7-8",
    ];
    assert_eq!(monitor.heard().await, expected);

    bus.try_acquire("k", "token", second).await.unwrap();
    bus.is_locked("k").await.unwrap();
    bus.publish("agentscope:task:cancel", r#"{"task_id": "x"}"#).await.unwrap();
    let expected =
        ["SET k token NX PX 1000", "EXISTS k", r#"PUBLISH agentscope:task:cancel {"task_id": "x"}"#];
    assert_eq!(monitor.heard().await, expected);
}

#[tokio::test]
async fn every_call_is_one_round_trip() {
    let server = RedisServer::start();
    let bus = bus(&server);
    let ttl = Duration::from_secs(1);
    let second = Some(ttl);
    // Once, so that the server knows the scripts.
    for expected in [2, 1] {
        let mut before = bus.stats().round_trips;
        let mut trips = || {
            let trips = bus.stats().round_trips - before;
            before += trips;
            trips
        };
        bus.set("ns", "f", "v", second).await.unwrap();
        assert_eq!(trips(), expected);
        bus.set_if("ns", "f", "v", "v", second).await.unwrap();
        assert_eq!(trips(), expected);
        bus.take("ns", "f").await.unwrap();
        assert_eq!(trips(), expected);
        bus.push("q", "{}", second).await.unwrap();
        assert_eq!(trips(), expected);
        bus.drain("q", 9).await.unwrap();
        assert_eq!(trips(), expected);
        bus.append("l", "{}", second, Some(9)).await.unwrap();
        assert_eq!(trips(), expected);
        bus.trim("l", None).await.unwrap();
        assert_eq!(trips(), expected);
        bus.renew("k", "token", ttl).await.unwrap();
        assert_eq!(trips(), expected);
        bus.release("k", "token").await.unwrap();
        assert_eq!(trips(), expected);
        bus.deliver(&delivery("S", "k", "{}")).await.unwrap();
        assert_eq!(trips(), expected);
        bus.get("ns", "f").await.unwrap();
        assert_eq!(trips(), 1);
    }
}

#[tokio::test]
async fn a_result_for_a_session_that_sleeps() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let hint = "{\"type\": \"hint\", \"hint\": \"finished — ünïcode ✓\"}";
    let mut result = delivery("S", "0b2e", hint);
    result.user_id = "Ü \"q\"".into();
    assert!(bus.deliver(&result).await.unwrap());

    assert_eq!(payload(&mut signals).await, "{}");
    assert_eq!(plain.entries("agentscope:inbox:S").await, [["payload", hint]]);
    let wakeup =
        r#"{"user_id": "Ü \"q\"", "session_id": "S", "agent_id": "AG", "kind": "wake", "input": null}"#;
    assert_eq!(plain.entries("agentscope:wakeups").await, [["payload", wakeup]]);
    let mark = "agentscope:offload:delivered:S:0b2e";
    assert_eq!(plain.keys().await, ["agentscope:inbox:S", mark, "agentscope:wakeups"]);
    let left: u64 = plain.run(&["PTTL", mark]).await;
    assert!(left > DAY - 60_000 && left <= DAY, "{left}");
    // AgentScope's inboxes stay for good. Ours go when no client reads them.
    let left: u64 = plain.run(&["PTTL", "agentscope:inbox:S"]).await;
    assert!(left > 30 * DAY - 60_000 && left <= 30 * DAY, "{left}");
    assert_eq!(plain.run::<i64>(&["PTTL", "agentscope:wakeups"]).await, -1);
}

#[tokio::test]
async fn a_result_for_a_session_that_runs() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let () = plain.run(&["HSET", "agentscope:inbox:consumer:S", "running", "1"]).await;
    let () = plain.run(&["EXPIRE", "agentscope:inbox:consumer:S", "600"]).await;
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    assert!(!bus.deliver(&delivery("S", "k", "{}")).await.unwrap());
    bus.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();
    assert_eq!(payload(&mut signals).await, "the end");
    assert_eq!(plain.entries("agentscope:inbox:S").await, [["payload", "{}"]]);
    assert_eq!(plain.run::<usize>(&["EXISTS", "agentscope:wakeups"]).await, 0);
}

#[tokio::test]
async fn what_is_stored_is_what_others_read() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let task = r#"{"tool_name": "slow — tool", "agent_id": "AG", "started_at": 1795354291.2980032}"#;
    let tasks = keys::background_tasks("S");
    bus.set(&tasks, "hhwjhbAgNTN47SbN6fBErd", task, Some(Duration::from_millis(DAY + 1))).await.unwrap();
    let all: Vec<(String, String)> = plain.run(&["HGETALL", "agentscope:bg_tasks:S"]).await;
    assert_eq!(all, [("hhwjhbAgNTN47SbN6fBErd".to_owned(), task.to_owned())]);
    let left: u64 = plain.run(&["PTTL", "agentscope:bg_tasks:S"]).await;
    assert!(left > DAY - 60_000 && left <= DAY + 1, "{left}");
    bus.set(&tasks, "other", task, Some(Duration::MAX)).await.unwrap();
    assert_eq!(plain.run::<i64>(&["PTTL", "agentscope:bg_tasks:S"]).await, -1, "for good");

    for ttl in [None, Some(Duration::from_secs(9))] {
        let id = bus.push("q", task, ttl).await.unwrap();
        let entries: Vec<(String, Vec<String>)> =
            plain.run(&["XREVRANGE", "q", "+", "-", "COUNT", "1"]).await;
        assert_eq!(entries, [(id.to_string(), vec!["payload".to_owned(), task.to_owned()])]);
        let id = bus.append("l", task, ttl, Some(9)).await.unwrap();
        let entries: Vec<(String, Vec<String>)> =
            plain.run(&["XREVRANGE", "l", "+", "-", "COUNT", "1"]).await;
        assert_eq!(entries, [(id.to_string(), vec!["payload".to_owned(), task.to_owned()])]);
    }
    let left: u64 = plain.run(&["PTTL", "q"]).await;
    assert!(left > 1 && left <= 9_000, "{left}");

    assert!(bus.try_acquire("k", "0a1b", Duration::from_secs(30)).await.unwrap());
    assert_eq!(plain.run::<String>(&["GET", "k"]).await, "0a1b");
    let left: u64 = plain.run(&["PTTL", "k"]).await;
    assert!(left > 1_000 && left <= 30_000, "{left}");
    assert!(bus.renew("k", "0a1b", Duration::MAX).await.unwrap());
    assert_eq!(plain.run::<i64>(&["PTTL", "k"]).await, -1);
}

#[tokio::test]
async fn locks_are_those_of_others() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let second = Duration::from_secs(1);
    let () = plain.run(&["SET", "k", "theirs", "NX", "EX", "600"]).await;
    assert!(bus.is_locked("k").await.unwrap());
    assert!(!bus.try_acquire("k", "ours", second).await.unwrap());
    assert!(!bus.try_acquire("k", "ours", Duration::ZERO).await.unwrap());
    assert!(!bus.renew("k", "ours", second).await.unwrap());
    assert!(!bus.release("k", "ours").await.unwrap());
    assert_eq!(plain.run::<String>(&["GET", "k"]).await, "theirs");
    assert!(plain.run::<i64>(&["PTTL", "k"]).await > 60_000, "nobody else renews it");

    let () = plain.run(&["DEL", "k"]).await;
    assert!(bus.try_acquire("k", "ours", second * 600).await.unwrap());
    let theirs: Option<String> = plain.run(&["SET", "k", "theirs", "NX", "EX", "600"]).await;
    assert_eq!(theirs, None);
}

#[tokio::test]
async fn an_entry_goes_to_one_drainer_whoever_that_is() {
    // AgentScope's own script.
    const DRAIN: &str = "local r = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1]) \
                         for i = 1, #r do redis.call('XDEL', KEYS[1], r[i][1]) end return r";
    const ALL: usize = 2_000;
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    for number in 0..ALL {
        bus.push("q", &number.to_string(), None).await.unwrap();
    }
    let ours = async {
        let mut ours = Vec::new();
        loop {
            let entries = bus.drain("q", 7).await.unwrap();
            if entries.is_empty() {
                return ours;
            }
            ours.extend(entries.into_iter().map(|entry| entry.payload));
        }
    };
    let theirs = async {
        let mut theirs = Vec::new();
        loop {
            let entries: Vec<(String, Vec<String>)> = plain.run(&["EVAL", DRAIN, "1", "q", "5"]).await;
            if entries.is_empty() {
                return theirs;
            }
            theirs.extend(entries.into_iter().map(|(_, fields)| fields[1].clone()));
        }
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    assert!(!ours.is_empty() && !theirs.is_empty());
    let mut all: Vec<usize> = ours.iter().chain(&theirs).map(|text| text.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..ALL).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drain_takes_whatever_is_there() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let fill = "for i = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'payload', i) end";
    let () = plain.run(&["EVAL", fill, "1", "q"]).await;
    let entries = bus.drain("q", usize::MAX).await.unwrap();
    assert_eq!((entries.len(), &*entries[19_999].payload), (20_000, "20000"));
    assert_eq!(bus.len("q").await.unwrap(), 0);
}

#[tokio::test]
async fn an_emptied_stream_does_not_stay() {
    let server = RedisServer::start();
    let (bus, mut plain) = (bus(&server), Plain::new(&server).await);
    let mut last = None;
    for _ in 0..20 {
        // Also when it comes back within the same millisecond.
        let ids =
            [bus.push("q", "{}", None).await.unwrap(), bus.append("l", "{}", None, None).await.unwrap()];
        assert!(last.replace(ids).is_none_or(|last| last[0] < ids[0] && last[1] < ids[1]));
        assert_eq!(bus.drain("q", 9).await.unwrap().len(), 1);
        bus.trim("l", None).await.unwrap();
    }
    until("both are gone", async || {
        assert_eq!(bus.drain("q", 9).await.unwrap(), []);
        bus.trim("l", None).await.unwrap();
        plain.keys().await.is_empty()
    })
    .await;

    // The clock of the server is behind the last entry: ids would not grow if they began anew.
    let far: EntryId = EntryId { millis: 1 << 60, sequence: 3 };
    for key in ["q", "l"] {
        let () = plain.run(&["XADD", key, &far.to_string(), "payload", "{}"]).await;
    }
    assert_eq!(bus.drain("q", 9).await.unwrap()[0].id, far);
    bus.trim("l", None).await.unwrap();
    assert!(bus.push("q", "{}", None).await.unwrap() > far);
    assert!(bus.append("l", "{}", None, None).await.unwrap() > far);
}

#[tokio::test]
async fn a_prefix_takes_the_place_of_the_common_one() {
    let server = RedisServer::start();
    let mut plain = Plain::new(&server).await;
    let bus = RedisBus::builder(server.url()).prefix("{mine}").build().unwrap();
    let mut subscription = bus.subscribe(&[keys::WAKEUP_SIGNAL, keys::TASK_CANCEL, "other"]).await.unwrap();
    assert!(bus.deliver(&delivery("S", "k", "{}")).await.unwrap());
    assert_eq!(&*message(&mut subscription).await.channel, keys::WAKEUP_SIGNAL);
    assert_eq!(plain.keys().await, ["{mine}:inbox:S", "{mine}:offload:delivered:S:k", "{mine}:wakeups"]);
    assert_eq!(bus.drain(keys::WAKEUPS, 9).await.unwrap().len(), 1);
    assert_eq!(bus.drain(&keys::inbox("S"), 9).await.unwrap().len(), 1);

    let hears: usize = plain.run(&["PUBLISH", "{mine}:task:cancel", "1"]).await;
    assert_eq!(hears, 1);
    let heard = message(&mut subscription).await;
    assert_eq!((&*heard.channel, &*heard.payload), (keys::TASK_CANCEL, "1"));
    let hears: usize = plain.run(&["PUBLISH", keys::TASK_CANCEL, "2"]).await;
    assert_eq!(hears, 0);
    bus.publish("other", "3").await.unwrap();
    assert_eq!(&*message(&mut subscription).await.channel, "other");

    // Two names of one channel: one message, under the first one.
    let mut both = bus.subscribe(&["{mine}:x", "agentscope:x"]).await.unwrap();
    let mut one = bus.subscribe(&["agentscope:x"]).await.unwrap();
    for text in ["1", "2"] {
        bus.publish("agentscope:x", text).await.unwrap();
        let (both, one) = (message(&mut both).await, message(&mut one).await);
        assert_eq!((&*both.channel, &*both.payload), ("{mine}:x", text));
        assert_eq!((&*one.channel, &*one.payload), ("agentscope:x", text));
    }

    for (call, key) in [("set", "agentscope:r"), ("lock", "agentscope:k"), ("log", "agentscope:l")] {
        match call {
            "set" => bus.set(key, "f", "v", None).await.unwrap(),
            "lock" => assert!(bus.try_acquire(key, "t", Duration::MAX).await.unwrap()),
            _ => drop(bus.append(key, "{}", None, None).await.unwrap()),
        }
        let on_server = key.replace("agentscope", "{mine}");
        assert_eq!(plain.run::<usize>(&["EXISTS", &on_server]).await, 1, "{on_server}");
    }
    bus.set("agentscopes", "f", "v", None).await.unwrap();
    assert_eq!(plain.run::<usize>(&["EXISTS", "agentscopes"]).await, 1);
}

#[tokio::test]
async fn two_prefixes_are_two_buses() {
    let server = RedisServer::start();
    let of = |prefix: &str| RedisBus::builder(server.url()).prefix(prefix).build().unwrap();
    let (one, other) = (of("one"), of("other"));
    let mut signals = other.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    assert!(one.deliver(&delivery("S", "k", "{}")).await.unwrap());
    assert!(other.deliver(&delivery("S", "k", "{}")).await.unwrap());
    other.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();
    assert_eq!(payload(&mut signals).await, "{}");
    assert_eq!(payload(&mut signals).await, "the end");
    assert_eq!(one.len(keys::WAKEUPS).await.unwrap(), 1);
}
