//! The keys that name a secret.

/// Secret anywhere in a key, with or without a separator between their words.
const ANYWHERE: [&str; 19] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "credential",
    "authorization",
    "authorisation",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "sshkey",
    "authkey",
    "sessionkey",
    "sharedkey",
    "accountkey",
];

/// Secret at the end of a word, as in `accesstoken`. Few other words end so, while many begin so (`secretary`).
const WORD_ENDS: [&str; 4] = ["secret", "secrets", "cookie", "cookies"];

const WORDS: [&str; 5] = ["bearer", "jwt", "cred", "creds", "pwd"];

/// Secret at the end of a key; too common in the middle: `pass_rate`, `auth_type`.
const LAST_WORDS: [&str; 3] = ["pass", "pw", "auth"];

/// Next to one of these words, `token` is not secret.
const COUNTING: [&str; 22] = [
    "max", "min", "n", "num", "number", "total", "count", "counts", "counter", "limit", "budget", "usage",
    "per", "length", "len", "size", "stop", "eos", "bos", "pad", "unk", "mask",
];

/// Next to one of these words, `tokens` are not secret, while a `token` may be.
const COUNTING_MANY: [&str; 13] = [
    "prompt",
    "completion",
    "input",
    "output",
    "cached",
    "cache",
    "reasoning",
    "thinking",
    "context",
    "generated",
    "special",
    "used",
    "remaining",
];

/// Whether this parameter of a URL's query carries the signature of a presigned URL.
pub(super) fn is_signature(parameter: &str) -> bool {
    words(parameter).last().is_some_and(|word| matches!(word.as_str(), "signature" | "sig"))
}

/// Whether the value of this key is secret.
pub(super) fn is_secret(key: &str) -> bool {
    let words = words(key);
    // Camel case may have split what is one word: `passWord`.
    let joined = words.concat().replace("passwordless", "");
    ANYWHERE.iter().any(|secret| joined.contains(secret))
        || words.iter().any(|word| {
            WORDS.contains(&word.as_str()) || WORD_ENDS.iter().any(|secret| word.ends_with(secret))
        })
        || words.last().is_some_and(|word| LAST_WORDS.contains(&word.as_str()))
        || has_secret_token(&words)
}

fn has_secret_token(words: &[String]) -> bool {
    // The rest of a run-on word counts too: `maxtokens`, `accesstoken`.
    let rest_of = |word: &str| {
        let many = word.strip_suffix("tokens");
        many.or_else(|| word.strip_suffix("token")).map(|rest| (rest.to_owned(), many.is_some()))
    };
    let counts = |word: &str, many: bool| COUNTING.contains(&word) || (many && COUNTING_MANY.contains(&word));
    words
        .iter()
        .filter_map(|word| rest_of(word))
        .any(|(rest, many)| !counts(&rest, many) && !words.iter().any(|word| counts(word, many)))
}

/// The words of a key in snake, kebab, camel or any other case, in lower case. Any character but a letter ends a word.
fn words(key: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut last = ' ';
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(|next| next.is_lowercase());
        let begins = c.is_uppercase() && (last.is_lowercase() || (last.is_uppercase() && next_is_lower));
        if (begins || !c.is_alphabetic()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphabetic() {
            word.push(c.to_ascii_lowercase());
        }
        last = c;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_in_every_case() {
        let keys = "password passwd passwords PASSWORD passWord Password1 user_password PGPASSWORD MYSQL_PWD pwd \
            passphrase passcode db_pass pass pw token Token TOKEN accessToken access_token access-token ACCESS_TOKEN \
            accesstoken id.token tokens refresh_tokens input_token sessionToken session_token secret secrets \
            client_secret clientSecret clientsecret SECRET_KEY secretKeys api_key api-key apiKey ApiKey APIKey apikey \
            API_KEY x-api-key OPENAI_API_KEY apiKey2 api_keys access_key AWS_SECRET_ACCESS_KEY accessKeyId private_key \
            privateKey signing-key encryption_key authorization Authorization proxy-authorization credential \
            credentials aws_credentials creds cookie Cookie set-cookie setcookie cookies bearer Bearer jwt auth \
            basic_auth x-auth user[password] headers.authorization password: OAuthToken oauth2token --token";
        for key in keys.split_whitespace() {
            assert!(is_secret(key), "{key}");
        }
        assert!(is_secret("pass word") && is_secret("the password") && is_secret("\u{e9} api key"));
    }

    #[test]
    fn innocent_keys() {
        let keys = "max_tokens maxTokens MAX_TOKENS max-tokens maxtokens max_new_tokens total_tokens prompt_tokens \
            cache_read_input_tokens tokens_used n_tokens tokenCount token_count token_limit tokens_per_second \
            eos_token tokenizer tokenize tokenized Tokenizer keyboard key keys key_id public_key primary_key monkey \
            author authors authority author_id secretary secretariat passwordless passenger passed pass_rate compass \
            bypass path pwds auth_type authenticated cookiecutter session_id user id name api session \
            access private basic url jwts";
        for key in keys.split_whitespace() {
            assert!(!is_secret(key), "{key}");
        }
        assert!(!is_secret("") && !is_secret("123 -_") && !is_secret("\u{5bc6}\u{7801}"));
    }

    #[test]
    fn one_innocent_word_does_not_excuse_another() {
        for key in
            ["max_password_tokens", "passwordless_password", "token_count_secret", "max_tokens_api_key"]
        {
            assert!(is_secret(key), "{key}");
        }
    }
}
