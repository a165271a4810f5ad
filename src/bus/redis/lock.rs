use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::super::{Lock, Result};
use super::RedisBus;
use super::script::Script;
use super::ttl::{self, live};

static RENEW: Script = Script::new(concat!(
    live!(),
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
     live(KEYS[1], ARGV[2])\n\
     return 1"
));

static RELEASE: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\nreturn redis.call('DEL', KEYS[1])",
);

const TAKE: &str = "take a lock";

#[async_trait]
impl Lock for RedisBus {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        let key = self.on_server(key);
        let mut command = redis::cmd("SET");
        command.arg(key.as_bytes()).arg(token).arg("NX");
        match ttl::millis(ttl) {
            // The server takes no such time. Taken and gone at once is the same as not taken.
            Some(0) => return Ok(!self.exists(TAKE, &key).await?),
            Some(millis) => command.arg("PX").arg(millis),
            None => &mut command,
        };
        let answer: Value = self.client().query(TAKE, command).await?;
        Ok(answer != Value::Nil)
    }

    async fn renew(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        let call = RENEW.call().key(self.on_server(key)).arg(token).arg(ttl::argument(ttl));
        self.client().script("renew a lock", call).await
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        let call = RELEASE.call().key(self.on_server(key)).arg(token);
        self.client().script("release a lock", call).await
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.exists("look at a lock", &self.on_server(key)).await
    }
}
