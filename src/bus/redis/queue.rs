use std::time::Duration;

use async_trait::async_trait;

use super::super::{Entry, EntryId, Log, Queue, Result};
use super::RedisBus;
use super::script::Script;
use super::stream::{PAYLOAD, Range, count, entry_id, forget};
use super::ttl::{self, live};

static PUSH: Script = Script::new(concat!(
    live!(),
    "local id = redis.call('XADD', KEYS[1], '*', 'payload', ARGV[1])\n\
     live(KEYS[1], ARGV[2])\n\
     return id"
));

static DRAIN: Script = Script::new(concat!(
    forget!(),
    "local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])\n\
     for _, entry in ipairs(entries) do redis.call('XDEL', KEYS[1], entry[1]) end\n\
     forget(KEYS[1])\n\
     return entries"
));

/// Removes the entries before the id in `ARGV[1]`.
static REMOVE: Script =
    Script::new(concat!(forget!(), "redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])\nforget(KEYS[1])"));

#[async_trait]
impl Queue for RedisBus {
    async fn push(&self, key: &str, payload: &str, ttl: Option<Duration>) -> Result<EntryId> {
        const OPERATION: &str = "push to a queue";
        let key = self.on_server(key);
        let id: String = match ttl {
            Some(ttl) => {
                let call = PUSH.call().key(key).arg(payload).arg(ttl::argument(ttl));
                self.client().script(OPERATION, call).await?
            }
            None => {
                let mut command = redis::cmd("XADD");
                command.arg(key.as_bytes()).arg("*").arg(PAYLOAD).arg(payload);
                self.client().query(OPERATION, command).await?
            }
        };
        entry_id(OPERATION, &id)
    }

    async fn drain(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        const OPERATION: &str = "drain a queue";
        if max == 0 {
            return Ok(Vec::new());
        }
        let key = self.on_server(key);
        loop {
            let call = DRAIN.call().key(&*key).arg(count(max).to_string());
            let range = Range::read(OPERATION, &key, self.client().script(OPERATION, call).await?)?;
            // Nothing but entries that were skipped does not mean that the queue is empty.
            if range.len == 0 || !range.entries.is_empty() {
                return Ok(range.entries);
            }
        }
    }

    async fn peek(&self, key: &str, max: usize) -> Result<Vec<Entry>> {
        // On the server a queue is a stream, as a log is.
        Log::read(self, key, None, max).await
    }

    async fn remove_through(&self, key: &str, id: EntryId) -> Result<()> {
        let next = match id.sequence.checked_add(1) {
            Some(sequence) => EntryId { sequence, ..id },
            None => EntryId { millis: id.millis.saturating_add(1), sequence: 0 },
        };
        let call = REMOVE.call().key(self.on_server(key)).arg(next.to_string());
        self.client().script("remove entries of a queue", call).await
    }

    async fn len(&self, key: &str) -> Result<usize> {
        let mut command = redis::cmd("XLEN");
        command.arg(self.on_server(key).as_bytes());
        self.client().query("ask for the length of a queue", command).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_key("delete a queue", key).await
    }
}
