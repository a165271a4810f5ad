use std::time::Duration;

use async_trait::async_trait;

use super::super::{Registry, Result};
use super::RedisBus;
use super::script::Script;
use super::ttl::{self, live};
use crate::log_limit::LogLimit;

/// `ARGV`: field, value, time to live.
pub(super) static SET: Script =
    Script::new(concat!(live!(), "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])\nlive(KEYS[1], ARGV[3])"));

/// Without a time to live `ARGV[4]` is empty.
static SET_IF: Script = Script::new(concat!(
    live!(),
    "if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end\n\
     redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])\n\
     if ARGV[4] ~= '' then live(KEYS[1], ARGV[4]) end\n\
     return 1"
));

static TAKE: Script = Script::new(
    "local value = redis.call('HGET', KEYS[1], ARGV[1])\n\
     if value then redis.call('HDEL', KEYS[1], ARGV[1]) end\n\
     return value",
);

const WRITE: &str = "write to the registry";
const READ: &str = "read from the registry";

#[async_trait]
impl Registry for RedisBus {
    async fn set(&self, namespace: &str, field: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        let key = self.on_server(namespace);
        match ttl {
            Some(ttl) => {
                let call = SET.call().key(key).arg(field).arg(value).arg(ttl::argument(ttl));
                self.client().script(WRITE, call).await
            }
            None => {
                let mut command = redis::cmd("HSET");
                command.arg(key.as_bytes()).arg(field).arg(value);
                self.client().query(WRITE, command).await
            }
        }
    }

    async fn get(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        let mut command = redis::cmd("HGET");
        command.arg(self.on_server(namespace).as_bytes()).arg(field);
        self.client().query(READ, command).await
    }

    async fn get_all(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        let key = self.on_server(namespace);
        let mut command = redis::cmd("HGETALL");
        command.arg(key.as_bytes());
        let fields: Vec<(Vec<u8>, Vec<u8>)> = self.client().query(READ, command).await?;
        let texts = fields.into_iter().filter_map(|(field, value)| {
            match (String::from_utf8(field), String::from_utf8(value)) {
                (Ok(field), Ok(value)) => Some((field, value)),
                _ => {
                    static LINES: LogLimit = LogLimit::new();
                    LINES.write(|left_out| {
                        tracing::warn!(key = &*key, left_out, "a field that is not UTF-8 text was skipped");
                    });
                    None
                }
            }
        });
        Ok(texts.collect())
    }

    async fn contains(&self, namespace: &str, field: &str) -> Result<bool> {
        let mut command = redis::cmd("HEXISTS");
        command.arg(self.on_server(namespace).as_bytes()).arg(field);
        self.client().query(READ, command).await
    }

    async fn remove(&self, namespace: &str, field: &str) -> Result<bool> {
        let mut command = redis::cmd("HDEL");
        command.arg(self.on_server(namespace).as_bytes()).arg(field);
        self.client().query(WRITE, command).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.delete_key(WRITE, namespace).await
    }

    async fn set_if(
        &self,
        namespace: &str,
        field: &str,
        value: &str,
        expected: &str,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let call = SET_IF.call().key(self.on_server(namespace)).arg(field).arg(value).arg(expected);
        let call = call.arg(ttl.map_or("".into(), ttl::argument));
        self.client().script(WRITE, call).await
    }

    async fn take(&self, namespace: &str, field: &str) -> Result<Option<String>> {
        let call = TAKE.call().key(self.on_server(namespace)).arg(field);
        self.client().script("take from the registry", call).await
    }
}
