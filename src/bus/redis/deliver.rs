use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::sleep;

use super::super::message::Wakeup;
use super::super::{BusError, BusHealth, Delivery, MessageBus, Result, has_doubled, keys, python};
use super::RedisBus;
use super::script::Script;
use super::ttl::{self, live};
use crate::panics::quietly;

/// For how long a delivery is recognised when it comes again.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two attempts while the inbox is locked.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// `KEYS`: inbox, inbox lock, consumer, wakeups, mark of this delivery. `ARGV`: payload, wakeup, channel of the
/// signal, milliseconds for which the mark is kept, field of the consumer, most entries of a queue, time to live of the
/// inbox. Answers what it did, and how many older entries had to go.
///
/// The lock counts only as a string: the inbox of a session named `lock:x` has the same name as the lock of `x`. What
/// could fail comes first, because a script that fails is not undone: the lengths are for keys of another type, and
/// the signal is sent before the wakeup is written. Both are one step for other clients.
static DELIVER: Script = Script::new(concat!(
    live!(),
    "if redis.call('EXISTS', KEYS[5]) == 1 then return {'known', 0} end\n\
     if redis.call('TYPE', KEYS[2]).ok == 'string' then return {'locked', 0} end\n\
     local dropped = 0\n\
     local function add(key, payload)\n\
       local before = redis.call('XLEN', key)\n\
       redis.call('XADD', key, 'MAXLEN', '~', ARGV[6], '*', 'payload', payload)\n\
       dropped = dropped + before + 1 - redis.call('XLEN', key)\n\
     end\n\
     local runs = redis.call('HEXISTS', KEYS[3], ARGV[5]) == 1\n\
     redis.call('XLEN', KEYS[1])\n\
     if not runs then\n\
       redis.call('XLEN', KEYS[4])\n\
       redis.call('PUBLISH', ARGV[3], '{}')\n\
       add(KEYS[4], ARGV[2])\n\
     end\n\
     add(KEYS[1], ARGV[1])\n\
     live(KEYS[1], ARGV[7])\n\
     redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])\n\
     return {runs and 'heard' or 'woken', dropped}",
));

/// `KEYS`: inbox, consumer. `ARGV`: field of the consumer. A stream of AgentScope's that was emptied is still there.
static FINISH: Script = Script::new(
    "if redis.call('XLEN', KEYS[1]) > 0 then return 0 end\n\
     redis.call('HDEL', KEYS[2], ARGV[1])\n\
     return 1",
);

/// What bounds the inboxes, whose names clients choose and which may have no reader.
#[derive(Debug)]
pub(super) struct Inboxes {
    max_entries: usize,
    ttl: Duration,
    dropped: AtomicU64,
}

impl Inboxes {
    pub(super) const fn new(max_entries: usize, ttl: Duration) -> Self {
        Self { max_entries, ttl, dropped: AtomicU64::new(0) }
    }

    /// How many older entries deliveries have dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn note(&self, dropped: u64) {
        let before = self.dropped.fetch_add(dropped, Ordering::Relaxed);
        if has_doubled(before, before + dropped) {
            let dropped_entries = before + dropped;
            quietly(|| {
                tracing::warn!(dropped_entries, "the oldest entries of inboxes or wakeups were dropped");
            });
        }
    }
}

#[async_trait]
impl MessageBus for RedisBus {
    fn is_shared(&self) -> bool {
        true
    }

    fn health(&self) -> BusHealth {
        let contact = self.client().link().contact();
        let since = SystemTime::now().checked_sub(contact.since.elapsed());
        let health = if contact.connected {
            BusHealth::connected(since)
        } else {
            BusHealth::disconnected(since, contact.last_error.map(|error| error.to_string()))
        };
        health.with_losses(self.inner.inboxes.dropped(), self.client().link().out_of_memory())
    }

    async fn finish_inbox(&self, session_id: &str) -> Result<bool> {
        let (inbox, consumer) = (keys::inbox(session_id), keys::inbox_consumer(session_id));
        let call = FINISH
            .call()
            .key(self.on_server(&inbox))
            .key(self.on_server(&consumer))
            .arg(keys::CONSUMER_RUNNING);
        self.client().script("finish an inbox", call).await
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<bool> {
        const OPERATION: &str = "deliver a result";
        let Delivery { user_id, session_id, agent_id, dedupe_key, payload } = delivery;
        let wakeup = Wakeup::wake(&**user_id, &**session_id, &**agent_id);
        let wakeup = python::to_json(&wakeup).map_err(|error| BusError::new("write a wakeup", error))?;
        let [inbox, lock, consumer] =
            [keys::inbox(session_id), keys::inbox_lock(session_id), keys::inbox_consumer(session_id)];
        let mark = mark(session_id, dedupe_key);

        let inboxes = &self.inner.inboxes;
        let mut pause = FIRST_PAUSE;
        loop {
            let call = DELIVER
                .call()
                .key(self.on_server(&inbox))
                .key(self.on_server(&lock))
                .key(self.on_server(&consumer))
                .key(self.on_server(keys::WAKEUPS))
                .key(self.on_server(&mark))
                .arg(payload)
                .arg(&wakeup)
                .arg(self.on_server(keys::WAKEUP_SIGNAL))
                .arg(REMEMBERED.as_millis().to_string())
                .arg(keys::CONSUMER_RUNNING)
                .arg(inboxes.max_entries.to_string())
                .arg(ttl::argument(inboxes.ttl));
            let (answer, dropped): (String, u64) = self.client().script(OPERATION, call).await?;
            inboxes.note(dropped);
            match &*answer {
                "woken" => return Ok(true),
                "heard" | "known" => return Ok(false),
                "locked" => {}
                other => return Err(BusError::new(OPERATION, format!("the script answered {other:?}"))),
            }
            // A consumer that ends drains its inbox and takes down its flag under this lock. A result that came in between
            // would wake no process.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The key that says that something was delivered. The last colon ends the session's id.
fn mark(session_id: &str, dedupe_key: &str) -> String {
    let dedupe_key = dedupe_key.replace('%', "%25").replace(':', "%3A");
    format!("agentscope:offload:delivered:{session_id}:{dedupe_key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_session_and_key_meet_makes_a_difference() {
        assert_eq!(mark("s", "k-1"), "agentscope:offload:delivered:s:k-1");
        assert_ne!(mark("a", "b:c"), mark("a:b", "c"));
        assert_ne!(mark("a", "b%3Ac"), mark("a", "b:c"));
        assert_ne!(mark("", ":"), mark(":", ""));
    }
}
