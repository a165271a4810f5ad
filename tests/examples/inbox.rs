//! Hints that can be read again until they are acknowledged.

use serde_json::{Value, json};

use crate::client::Request;
use crate::program::{Program, until};

#[tokio::test]
async fn a_hint_stays_until_it_is_acknowledged() {
    let service = Program::start(&["--timeout-secs", "0"]).await;
    for _ in 0..3 {
        let id = service.offload("alice", "Sleep", json!({"seconds": 0})).await;
        service.ended("alice", &id).await;
    }
    let hints =
        until(async || Some(service.peek_in("alice", "s1", "").await).filter(|hints| hints.len() == 3)).await;
    assert_eq!(service.peek_in("alice", "s1", "").await, hints, "as if the first answer had been lost");
    let ack = |hint: &Value| format!("?ack={}", hint["id"].as_str().unwrap());
    assert_eq!(service.peek_in("bob", "s1", &ack(&hints[2])).await, [Value::Null; 0]);
    for _ in 0..2 {
        assert_eq!(service.peek_in("alice", "s1", &ack(&hints[1])).await, hints[2..]);
    }
    assert_eq!(service.peek_in("alice", "s1", &ack(&hints[0])).await, hints[2..], "an id that is gone");
    assert_eq!(service.peek_in("alice", "s1", &ack(&hints[2])).await, [Value::Null; 0]);
    for query in ["?ack=", "?ack=x", "?ack=1", "?ack=1-", "?ack=-1-1", "?ack=1-2.", "?ack=1-2&ack=1-2"] {
        let path = format!("/sessions/s1/inbox/drain{query}");
        let answer = service.send(Request::new("POST", &path).header("X-User-ID", "alice")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
}
