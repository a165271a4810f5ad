use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use super::super::{Entry, EntryId, Log, Result};
use super::RedisBus;
use super::script::Script;
use super::stream::{PAYLOAD, Range, count, entry_id, forget};
use super::ttl::{self, live};

/// Without a limit `ARGV[3]` is empty.
static APPEND: Script = Script::new(concat!(
    live!(),
    "local id\n\
     if ARGV[3] == '' then id = redis.call('XADD', KEYS[1], '*', 'payload', ARGV[1])\n\
     else id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'payload', ARGV[1]) end\n\
     live(KEYS[1], ARGV[2])\n\
     return id"
));

/// Empties a log, and removes it if it can be: readers have their places in it.
static CLEAR: Script =
    Script::new(concat!(forget!(), "redis.call('XTRIM', KEYS[1], 'MAXLEN', '0')\nforget(KEYS[1])"));

#[async_trait]
impl Log for RedisBus {
    async fn append(
        &self,
        key: &str,
        payload: &str,
        ttl: Option<Duration>,
        max_len: Option<usize>,
    ) -> Result<EntryId> {
        const OPERATION: &str = "append to a log";
        let key = self.on_server(key);
        let id: String = match ttl {
            Some(ttl) => {
                let max_len = max_len.map_or_else(String::new, |max| count(max).to_string());
                let call = APPEND.call().key(key).arg(payload).arg(ttl::argument(ttl)).arg(max_len);
                self.client().script(OPERATION, call).await?
            }
            None => {
                let mut command = redis::cmd("XADD");
                command.arg(key.as_bytes());
                if let Some(max) = max_len {
                    command.arg("MAXLEN").arg("~").arg(count(max));
                }
                command.arg("*").arg(PAYLOAD).arg(payload);
                self.client().query(OPERATION, command).await?
            }
        };
        entry_id(OPERATION, &id)
    }

    async fn read(&self, key: &str, after: Option<EntryId>, max: usize) -> Result<Vec<Entry>> {
        const OPERATION: &str = "read a log";
        if max == 0 {
            return Ok(Vec::new());
        }
        let key = self.on_server(key);
        let mut after = after;
        loop {
            let answer = self.client().query(OPERATION, range(&key, after, max)).await?;
            let range = Range::read(OPERATION, &key, answer)?;
            // A reader goes on from the last entry that it got, and would not get past a page of skipped ones.
            if range.len == 0 || !range.entries.is_empty() {
                return Ok(range.entries);
            }
            after = range.last;
        }
    }

    async fn trim(&self, key: &str, before: Option<EntryId>) -> Result<()> {
        const OPERATION: &str = "trim a log";
        let key = self.on_server(key);
        let Some(before) = before else {
            return self.client().script(OPERATION, CLEAR.call().key(key)).await;
        };
        let mut command = redis::cmd("XTRIM");
        command.arg(key.as_bytes()).arg("MINID").arg("~").arg(before.to_string());
        self.client().query(OPERATION, command).await
    }
}

fn range(key: &str, after: Option<EntryId>, max: usize) -> Cmd {
    let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
    let mut command = redis::cmd("XRANGE");
    command.arg(key.as_bytes()).arg(from).arg("+").arg("COUNT").arg(count(max));
    command
}
