use std::borrow::Cow;
use std::sync::OnceLock;

use redis::Cmd;

/// A Lua script: what is one step for everybody else. By convention it touches one key, so that it also runs on a
/// Redis Cluster.
#[derive(Debug)]
pub(super) struct Script {
    body: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    pub(super) const fn new(body: &'static str) -> Self {
        Self { body, digest: OnceLock::new() }
    }

    /// A call of the script; to be completed with its keys and arguments.
    pub(super) const fn call(&self) -> Call<'_> {
        Call { script: self, keys: Vec::new(), arguments: Vec::new() }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| redis::Script::new(self.body).get_hash().to_owned())
    }
}

/// A script with its `KEYS` and `ARGV`.
#[derive(Debug)]
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<Cow<'a, str>>,
    arguments: Vec<Cow<'a, str>>,
}

impl<'a> Call<'a> {
    /// Adds a key, by its name on the server.
    #[must_use]
    pub(super) fn key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.keys.push(key.into());
        self
    }

    #[must_use]
    pub(super) fn arg(mut self, argument: impl Into<Cow<'a, str>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// By its digest: short, but the server may not know it.
    pub(super) fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", self.script.digest())
    }

    /// By its text, which the server then knows.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.body)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let texts = || self.keys.iter().chain(&self.arguments);
        let keys = self.keys.len().to_string();
        let bytes = name.len() + script.len() + keys.len() + texts().map(|text| text.len()).sum::<usize>();
        // In one piece: a record would make it grow again and again.
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.arguments.len(), bytes);
        command.arg(name).arg(script).arg(keys);
        for text in texts() {
            command.arg(text.as_bytes());
        }
        command
    }
}
