use tower_offload::TaskMeta;
use tower_offload::bus::{Delivery, SharedBus, keys};

use super::{Harness, TTL, fifty, next, payloads, unique};

fn delivery(session: &str, key: &str, payload: &str) -> Delivery {
    let meta = TaskMeta::new("the user", "tool").with_session(session).with_agent("the agent");
    Delivery::new(key, &meta, payload.to_owned())
}

async fn wakeups(bus: &SharedBus) -> Vec<String> {
    bus.drain(keys::WAKEUPS, usize::MAX).await.unwrap().into_iter().map(|entry| entry.payload).collect()
}

async fn inbox(bus: &SharedBus, session: &str) -> Vec<String> {
    let entries = bus.drain(&keys::inbox(session), usize::MAX).await.unwrap();
    entries.into_iter().map(|entry| entry.payload).collect()
}

pub(crate) async fn a_result_reaches_the_inbox_and_wakes_once(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    assert!(bus.deliver(&delivery(&session, "k", r#"{"type": "hint"}"#)).await.unwrap());
    bus.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();

    assert_eq!(&*next(&mut signals).await.payload, "{}");
    assert_eq!(&*next(&mut signals).await.payload, "the end");
    assert_eq!(inbox(&bus, &session).await, [r#"{"type": "hint"}"#]);
    let wakeups = wakeups(&bus).await;
    assert_eq!(wakeups.len(), 1);
    // As AgentScope reads it, in its order. Spaces between items are up to the bus.
    let expected = format!(
        r#"{{"user_id":"theuser","session_id":"{session}","agent_id":"theagent","kind":"wake","input":null}}"#
    );
    assert_eq!(wakeups[0].replace(' ', ""), expected);
}

pub(crate) async fn the_wakeup_is_there_when_the_signal_comes(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    let listener = tokio::spawn({
        let bus = bus.clone();
        async move {
            for _ in 0..50 {
                next(&mut signals).await;
                assert!(bus.len(keys::WAKEUPS).await.unwrap() > 0);
                assert_eq!(wakeups(&bus).await.len(), 1);
            }
        }
    });
    for number in 0..50 {
        // One at a time, so that no signal stands for the wakeup of the next.
        let result = delivery(&session, &number.to_string(), "{}");
        assert!(bus.deliver(&result).await.unwrap());
        while bus.len(keys::WAKEUPS).await.unwrap() > 0 && !listener.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    listener.await.unwrap();
    assert_eq!(inbox(&bus, &session).await.len(), 50);
}

pub(crate) async fn a_consumer_is_not_woken(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    let consumer = keys::inbox_consumer(&session);
    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    bus.set(&consumer, keys::CONSUMER_RUNNING, "1", None).await.unwrap();
    assert!(!bus.deliver(&delivery(&session, "k1", "1")).await.unwrap());
    bus.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();
    assert_eq!(&*next(&mut signals).await.payload, "the end");
    assert_eq!(wakeups(&bus).await, [""; 0]);

    // Only that field counts.
    bus.set(&consumer, "other", "1", None).await.unwrap();
    bus.remove(&consumer, keys::CONSUMER_RUNNING).await.unwrap();
    assert!(bus.deliver(&delivery(&session, "k2", "2")).await.unwrap());
    assert_eq!(&*next(&mut signals).await.payload, "{}");
    assert_eq!(wakeups(&bus).await.len(), 1);
    assert_eq!(inbox(&bus, &session).await, ["1", "2"]);
}

pub(crate) async fn a_repeated_delivery_changes_nothing(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    assert!(bus.deliver(&delivery(&session, "k", "1")).await.unwrap());
    assert_eq!((inbox(&bus, &session).await.len(), wakeups(&bus).await.len()), (1, 1));

    let mut signals = bus.subscribe(&[keys::WAKEUP_SIGNAL]).await.unwrap();
    assert!(!bus.deliver(&delivery(&session, "k", "1")).await.unwrap());
    assert!(!bus.deliver(&delivery(&session, "k", "other")).await.unwrap());
    bus.publish(keys::WAKEUP_SIGNAL, "the end").await.unwrap();
    assert_eq!(&*next(&mut signals).await.payload, "the end");
    assert_eq!((inbox(&bus, &session).await.len(), wakeups(&bus).await.len()), (0, 0));

    assert!(bus.deliver(&delivery(&session, "k2", "2")).await.unwrap());
    assert_eq!(inbox(&bus, &session).await, ["2"]);
}

pub(crate) async fn the_same_key_for_another_session_is_another_delivery(harness: impl Harness) {
    let (bus, one, other) = (harness.bus(), unique("one"), unique("other"));
    assert!(bus.deliver(&delivery(&one, "k", "1")).await.unwrap());
    assert!(bus.deliver(&delivery(&other, "k", "2")).await.unwrap());
    assert_eq!(inbox(&bus, &one).await, ["1"]);
    assert_eq!(inbox(&bus, &other).await, ["2"]);
    assert_eq!(wakeups(&bus).await.len(), 2);
}

pub(crate) async fn fifty_results_at_once_all_arrive(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    let woken = fifty(|number| {
        let (bus, text) = (bus.clone(), number.to_string());
        let delivery = delivery(&session, &text, &text);
        async move { bus.deliver(&delivery).await.unwrap() }
    })
    .await;
    assert!(woken.into_iter().all(|woken| woken));
    let entries = bus.drain(&keys::inbox(&session), usize::MAX).await.unwrap();
    let mut numbers: Vec<u32> = payloads(&entries).into_iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    assert_eq!(wakeups(&bus).await.len(), 50);
}

pub(crate) async fn fifty_attempts_at_one_delivery_deliver_once(harness: impl Harness) {
    let bus = harness.bus();
    for _ in 0..20 {
        let session = unique("session");
        let woken = fifty(|_| {
            let (bus, delivery) = (bus.clone(), delivery(&session, "k", "{}"));
            async move { bus.deliver(&delivery).await.unwrap() }
        })
        .await;
        assert_eq!(woken.into_iter().filter(|woken| *woken).count(), 1);
        assert_eq!((inbox(&bus, &session).await.len(), wakeups(&bus).await.len()), (1, 1));
    }
}

/// Puts the flag of a consumer up.
async fn consume(bus: &SharedBus, session: &str) {
    bus.set(&keys::inbox_consumer(session), keys::CONSUMER_RUNNING, "1", None).await.unwrap();
}

async fn is_consumed(bus: &SharedBus, session: &str) -> bool {
    bus.contains(&keys::inbox_consumer(session), keys::CONSUMER_RUNNING).await.unwrap()
}

pub(crate) async fn an_empty_inbox_is_finished_and_the_next_result_wakes(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    consume(&bus, &session).await;
    assert!(!bus.deliver(&delivery(&session, "k1", "1")).await.unwrap());
    assert_eq!(inbox(&bus, &session).await, ["1"]);

    assert!(bus.finish_inbox(&session).await.unwrap());
    assert!(!is_consumed(&bus, &session).await);
    assert!(bus.finish_inbox(&session).await.unwrap(), "asked again it is the same answer");
    assert!(bus.deliver(&delivery(&session, "k2", "2")).await.unwrap());
    assert_eq!(wakeups(&bus).await.len(), 1);
}

pub(crate) async fn an_inbox_with_something_in_it_is_not_finished(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    consume(&bus, &session).await;
    bus.deliver(&delivery(&session, "k1", "1")).await.unwrap();
    bus.deliver(&delivery(&session, "k2", "2")).await.unwrap();
    for left in [2, 1] {
        assert!(!bus.finish_inbox(&session).await.unwrap());
        assert!(is_consumed(&bus, &session).await);
        assert_eq!(bus.len(&keys::inbox(&session)).await.unwrap(), left);
        assert_eq!(bus.drain(&keys::inbox(&session), 1).await.unwrap().len(), 1);
    }
    assert!(!bus.deliver(&delivery(&session, "k3", "3")).await.unwrap(), "the consumer is still at it");
    assert_eq!(inbox(&bus, &session).await, ["3"]);
    assert!(bus.finish_inbox(&session).await.unwrap());
    assert!(!is_consumed(&bus, &session).await);
    assert_eq!(wakeups(&bus).await, [""; 0]);
}

pub(crate) async fn finishing_touches_one_session_and_one_field(harness: impl Harness) {
    let (bus, session, other) = (harness.bus(), unique("session"), unique("other"));
    consume(&bus, &session).await;
    consume(&bus, &other).await;
    bus.set(&keys::inbox_consumer(&session), "more", "2", None).await.unwrap();
    assert!(bus.finish_inbox(&session).await.unwrap());
    assert!(is_consumed(&bus, &other).await);
    let fields = bus.get_all(&keys::inbox_consumer(&session)).await.unwrap();
    assert_eq!(fields, [("more".to_owned(), "2".to_owned())]);
    assert!(bus.finish_inbox(&unique("nobody's")).await.unwrap());
}

pub(crate) async fn a_result_that_comes_as_the_inbox_is_finished_is_not_stranded(harness: impl Harness) {
    let bus = harness.bus();
    for _ in 0..20 {
        let sessions: Vec<_> = (0..25).map(|_| unique("session")).collect();
        for session in &sessions {
            consume(&bus, session).await;
        }
        let answers = fifty(|number| {
            let (bus, session) = (bus.clone(), sessions[number / 2].clone());
            async move {
                match number % 2 {
                    0 => bus.deliver(&delivery(&session, "k", "{}")).await.unwrap(),
                    _ => bus.finish_inbox(&session).await.unwrap(),
                }
            }
        })
        .await;
        let wakeups = wakeups(&bus).await;
        for (session, answers) in sessions.iter().zip(answers.chunks(2)) {
            let &[delivery_woke, finished] = answers else { unreachable!() };
            assert_eq!(inbox(&bus, session).await.len(), 1);
            // The one or the other has it, and never both.
            assert_eq!(delivery_woke, finished);
            assert_eq!(is_consumed(&bus, session).await, !finished);
            let wakes = wakeups.iter().filter(|wakeup| wakeup.contains(session.as_str())).count();
            assert_eq!(wakes, usize::from(delivery_woke));
        }
    }
}

pub(crate) async fn a_consumer_that_has_expired_is_woken(harness: impl Harness) {
    let (bus, session) = (harness.bus(), unique("session"));
    bus.set(&keys::inbox_consumer(&session), keys::CONSUMER_RUNNING, "1", Some(TTL)).await.unwrap();
    assert!(!bus.deliver(&delivery(&session, "k1", "{}")).await.unwrap());
    harness.age(TTL * 2).await;
    assert!(bus.deliver(&delivery(&session, "k2", "{}")).await.unwrap());
    assert_eq!(wakeups(&bus).await.len(), 1);
}
