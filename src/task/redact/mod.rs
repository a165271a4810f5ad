//! One rule for secrets in texts: [`redact`].

mod keys;
mod options;
mod quote;
mod scanner;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;

use self::options::{Command, Meaning};
use self::scanner::{Scanner, in_word};

/// Shown in place of a secret.
pub(crate) const MARK: &str = "[redacted]";

const PRIVATE_KEYS: [&str; 2] = ["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"];

/// Replaces each secret that it recognises in `text` by `[redacted]`.
///
/// The crate applies this rule to summaries, to the error texts that it stores, and to texts from outside that it logs.
/// `TaskManagerBuilder::redact` replaces or extends it.
///
/// ```
/// use tower_offload::redact;
///
/// assert_eq!(redact("curl -u alice:s3cr3t https://h"), "curl -u [redacted] https://h");
/// assert_eq!(redact("cannot open postgres://app:s3cr3t@db/x"), "cannot open postgres://[redacted]@db/x");
/// assert_eq!(redact("ssh -p 2222 host, mkdir -p a/b"), "ssh -p 2222 host, mkdir -p a/b");
/// ```
///
/// # What is recognised
///
/// The rule is a safety net and not a guarantee. It recognises only the following, and hides too much rather than too
/// little.
///
/// **Secret keys.** Case does not matter, and `api_key`, `api-key`, `apiKey`, `APIKey` and `apikey` are the same. A key
/// is secret that
/// - contains `password`, `passwd`, `passphrase`, `passcode`, `credential`, `authorization` (or `authorisation`), or
///   `key` after one of `api`, `access`, `private`, `secret`, `signing`, `encryption`, `master`, `ssh`, `auth`,
///   `session`, `shared`, `account`; except `passwordless`;
/// - has a word that is, or ends in, `secret`, `token`, `cookie`, or their plural; but not `token` or `tokens` beside
///   a word of counting or of language models (`max_tokens`, `token_count`, `eos_token`, `prompt_tokens`);
/// - has the word `bearer`, `jwt`, `cred`, `creds` or `pwd`, or ends in the word `pass`, `pw` or `auth`.
///
/// For example, `passwords` and a bare `tokens` are secret; `tokenizer`, `secretary`, `author`, `monkey`, `keyboard`, `key` and
/// `session_id` are not.
///
/// **Their values**, in `key=value`, `key: value` and similar forms (`"key": "value"`, `key = value`). The rule hides a
/// quoted value up to its closing quote, and a value after a plain `=` up to the next whitespace. It hides the rest of the
/// line after `:`, after `=` and whitespace, and for `authorization` and `cookie`; if a bracket, `|` or `>` opens the
/// value, it hides the rest of the text. If a quote opens right before the key (`"Authorization: Bearer x"`), it hides the
/// text up to the closing quote.
///
/// **Options.** `--key value` and `-key value` with a secret key. `-u`, `-U`, `--user`, `--username` and `--proxy-user`
/// with a value that contains a colon or `%` (`user:password`), unless both sides of it are numbers or the value is a URL.
/// `-p` and similar options, depending on the command line that contains them:
/// - the value, for `-p` of `sshpass`, `mongo*` and of a command `login`, `-P` of `zip`, `unzip`, `sqlcmd`, `bcp` and
///   `mosquitto_*`, `-a` of `redis-cli`, `-w` of `ldap*`;
/// - the rest of the argument, for these and `-p` of `mysql*`, `mariadb*` and `7z`;
/// - the value of `-p` and `-P` beside an option for a user (`-u root -p x`), unless it consists of digits and
///   separators, as a port does.
///
/// Any other `-p` stays: `ssh -p 22`, `mkdir -p a`, `cargo test -p b`.
///
/// **Tokens** that have a known form: AWS access key ids, the prefixed tokens of GitHub, GitLab, Slack, Google, Stripe,
/// OpenAI, Anthropic, npm, PyPI and some others, JSON Web Tokens (`eyJ...`), the word after `Bearer` if it has at least 16
/// characters, and the text after `PRIVATE KEY-----`.
///
/// **URLs:** the part before the `@` in `scheme://user:password@host`, a host of more than 259 characters, and in a query the
/// value of a parameter whose last word is `signature` or `sig`, as presigned URLs have it.
///
/// **Not covered:** a secret under an innocent key, in prose ("the password is x"), encoded (base64, percent, escapes),
/// under a key in another language than English; personal data.
///
/// # Cost
///
/// The time is linear in the length of `text`, for any text. Redacting a redacted text changes nothing. No text makes the
/// rule panic.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    redact_start(text, false)
}

/// Redacts the beginning of a text. `cut` says that the text goes on, so that its end may be the beginning of a secret.
pub(super) fn redact_start(text: &str, cut: bool) -> Cow<'_, str> {
    let key = PRIVATE_KEYS.iter().filter_map(|key| Some(text.find(key)? + key.len())).min();
    let Some(key) = key else { return Scanner::new(text, cut).run() };
    let (head, tail) = text.split_at_checked(key).unwrap_or((text, ""));
    match Scanner::new(head, false).run() {
        Cow::Borrowed(_) if tail == MARK => Cow::Borrowed(text),
        head => Cow::Owned(head.into_owned() + MARK),
    }
}

/// Whether the value of this key is secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    keys::is_secret(key)
}

/// The state of a pass over the arguments of a command.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    command: Command,
    pending: Option<Meaning>,
}

impl Arguments {
    /// How many bytes at the start of the next argument are to be shown; `None` for all of it.
    pub(super) fn shown_of(&mut self, arg: &str) -> Option<usize> {
        self.command.add(arg);
        if let Some(meaning) = self.pending.take()
            && !arg.starts_with('-')
        {
            return meaning.hides(arg).then_some(0);
        }
        self.pending = if is_secret_flag(arg) { Some(Meaning::Password) } else { self.command.next(arg) };
        let (start, meaning) = self.command.rest_of(arg)?;
        let rest = arg.get(start..).unwrap_or_default();
        (!rest.is_empty() && meaning.hides(rest)).then_some(start)
    }

    /// Takes an argument that is not a text. Returns whether to hide it.
    pub(super) fn hides_other(&mut self) -> bool {
        self.pending.take() == Some(Meaning::Password)
    }
}

/// Whether this is an option whose value is the next argument: `--password`.
fn is_secret_flag(arg: &str) -> bool {
    arg.starts_with('-') && arg.chars().all(in_word) && keys::is_secret(arg)
}
