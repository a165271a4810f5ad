//! Secrets inside of texts.
//!
//! Where a secret ends is often unclear. Hiding too much of a line is a nuisance, hiding too little is a leak.

use super::keys;

/// Shown in place of a secret.
pub(super) const MARK: &str = "[redacted]";

const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The fewest characters after `Bearer` that are not just the next word of a sentence.
const BEARER_TOKEN: usize = 16;

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// `text` without its secrets; `cut` when there was more of it.
pub(super) fn text(text: &str, cut: bool) -> String {
    match text.split_once(PRIVATE_KEY) {
        Some((head, _)) => scan(head, false) + PRIVATE_KEY + MARK,
        None => scan(text, cut),
    }
}

/// Whether this is an option whose value is the next argument: `--password`.
pub(super) fn is_secret_flag(arg: &str) -> bool {
    arg.starts_with('-') && arg.chars().all(in_word) && keys::is_secret(arg)
}

fn scan(text: &str, cut: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = text.get(..text.len() - rest.len()).unwrap_or_default();
        let word = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let (keep, hide) = if let Some(url) = rest.strip_prefix("://") {
            (3, user_info(url, cut))
        } else if word == 0 {
            (c.len_utf8(), 0)
        } else {
            let (word, tail) = rest.split_at_checked(word).unwrap_or((rest, ""));
            secret_after(before, word, tail, cut)
                .map_or((word.len(), 0), |(skip, hide)| (word.len() + skip, hide))
        };
        shown.push_str(rest.get(..keep).unwrap_or_default());
        if hide > 0 {
            shown.push_str(MARK);
        }
        rest = rest.get(keep + hide..).unwrap_or_default();
    }
    shown
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// How many bytes after `word` are between it and its secret, and how many the secret has.
fn secret_after(before: &str, word: &str, tail: &str, cut: bool) -> Option<(usize, usize)> {
    if !keys::is_secret(word) {
        return None;
    }
    let after = tail.trim_start_matches(['\\', '"', '\'', '`', ']', ')']);
    let closed = tail.len() - after.len();
    let outer = match tail.get(..closed) {
        Some(closing) if closing.contains(QUOTES) => None,
        _ => Quote::at_end_of(before),
    };
    let sign = after.trim_start();
    if sign.starts_with([':', '=']) {
        let behind = sign.trim_start_matches([':', '=', '>']);
        let value = behind.trim_start();
        let spaced = value.len() < behind.len();
        let lower = word.to_ascii_lowercase();
        let header = ["authori", "cookie"].iter().any(|name| lower.contains(name));
        let to_end = sign.starts_with(':') || spaced || header;
        return Some((tail.len() - value.len(), value_len(value, outer, to_end)));
    }
    if word.starts_with('-') {
        let value = after.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let parted = value.len() < after.len();
        return parted.then(|| (tail.len() - value.len(), value_len(value, outer, false)));
    }
    if word.eq_ignore_ascii_case("bearer") {
        let token = tail.trim_start();
        let in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        let len = token.find(|c| !in_token(c)).unwrap_or(token.len());
        let unfinished = cut && len == token.len();
        let parted = token.len() < tail.len();
        return (parted && (len >= BEARER_TOKEN || unfinished)).then(|| (tail.len() - token.len(), len));
    }
    None
}

/// The length of a secret value that `value` begins with.
fn value_len(value: &str, outer: Option<Quote>, to_end: bool) -> usize {
    if let Some(outer) = outer {
        let (inside, behind) = outer.close(value).unwrap_or((value.len(), value.len()));
        let ended = value.get(behind..).is_none_or(|rest| rest.is_empty() || ends_quoted(rest));
        return if ended { inside } else { value.len() };
    }
    let quoted = Quote::at_start_of(value).is_some();
    if to_end && !quoted {
        return value.len();
    }
    let mut at = 0;
    while let Some(rest) = value.get(at..) {
        if let Some((quote, len)) = Quote::at_start_of(rest) {
            let close = rest.get(len..).and_then(|inside| quote.close(inside));
            if let Some((_, behind)) = close {
                at += len + behind;
                // `'it'"'"'s'` is one word to a shell, `"it","is"` are two to everybody.
                if quoted && value.get(at..).is_some_and(ends_quoted) {
                    return at;
                }
                continue;
            }
            if at == 0 {
                return value.len();
            }
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => return at,
            Some(c) if c.is_whitespace() => return at,
            Some('\\') => _ = chars.next(),
            Some(_) => {}
        }
        at = value.len() - chars.as_str().len();
    }
    value.len()
}

/// Whether nothing that follows a closing quote belongs to what was quoted.
fn ends_quoted(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_whitespace() || ",;:&|)}]>\\".contains(c))
}

/// The length of what is before the `@` of a URL's host.
fn user_info(url: &str, cut: bool) -> usize {
    let end = url.find(|c: char| c.is_whitespace() || "\"<>`".contains(c));
    let span = url.get(..end.unwrap_or(url.len())).unwrap_or_default();
    let host = span.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if let Some(at) = host.rfind('@') {
        return at;
    }
    if cut && host.len() == url.len() {
        return url.len();
    }
    // A password may have an unescaped slash in it; a port has none.
    let has_port = host.split_once(':').is_none_or(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
    if has_port || host.starts_with('[') { 0 } else { span.rfind('@').unwrap_or(0) }
}

/// A quotation mark and the number of backslashes before it, more than none inside of another quoted text.
#[derive(Clone, Copy, Debug)]
struct Quote {
    mark: char,
    slashes: usize,
}

impl Quote {
    fn at_end_of(text: &str) -> Option<Self> {
        let mark = text.chars().next_back().filter(|c| QUOTES.contains(c))?;
        let slashes = text.chars().rev().skip(1).take_while(|&c| c == '\\').count();
        Some(Self { mark, slashes })
    }

    /// With its length.
    fn at_start_of(text: &str) -> Option<(Self, usize)> {
        let bare = text.trim_start_matches('\\');
        let mark = bare.chars().next().filter(|c| QUOTES.contains(c))?;
        let slashes = text.len() - bare.len();
        Some((Self { mark, slashes }, slashes + mark.len_utf8()))
    }

    /// Where this quote is closed in the text behind it: what is inside ends there, and what is behind begins there.
    fn close(self, text: &str) -> Option<(usize, usize)> {
        let mut slashes = 0;
        for (at, c) in text.char_indices() {
            if c == self.mark && slashes <= self.slashes {
                return Some((at - slashes, at + c.len_utf8()));
            }
            slashes = if c == '\\' { slashes + 1 } else { 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &[(&str, &str)]) {
        for (secret, shown) in table {
            assert_eq!(text(secret, false), shown.replace('#', MARK), "{secret}");
        }
    }

    #[test]
    fn assignments() {
        check(&[
            ("password=x", "password=#"),
            ("a password=x b", "a password=# b"),
            ("export API_KEY=x; make", "export API_KEY=# make"),
            ("TOKEN='a b' make", "TOKEN=# make"),
            ("TOKEN=\"a b\" make", "TOKEN=# make"),
            ("TOKEN=\"a \\\" b\" make", "TOKEN=# make"),
            ("TOKEN=a\\ b make", "TOKEN=# make"),
            ("TOKEN=a'b c'd make", "TOKEN=# make"),
            ("TOKEN=a'b make", "TOKEN=# make"),
            ("TOKEN=a'b c',d make", "TOKEN=# make"),
            ("TOKEN='it'\"'\"'s x' make", "TOKEN=# make"),
            ("TOKEN='never closed", "TOKEN=#"),
            ("h?token=x&a=b c", "h?token=# c"),
            ("user[password]=x y", "user[password]=# y"),
            ("password = a b", "password = #"),
            ("password: a b", "password: #"),
            ("password:\n  a b", "password:\n  #"),
            ("password:a", "password:#"),
            ("password == 'x' or", "password == # or"),
            (":password => 'x', :a", ":password => #, :a"),
            ("let token := \"x\";", "let token := #;"),
            ("{\"password\":\"a b\",\"c\":1}", "{\"password\":#,\"c\":1}"),
            ("{\"password\" : \"a \\\" b\" }", "{\"password\" : # }"),
            ("{'password': 'a b', 'c': 1}", "{'password': #, 'c': 1}"),
            ("{\\\"password\\\":\\\"a b\\\",\\\"c\\\"", "{\\\"password\\\":#,\\\"c\\\""),
            ("-d 'password=a b' h", "-d 'password=#' h"),
            ("-d 'password=it'\"'\"'s' h", "-d 'password=#"),
            ("-d \"password='a b'\" h", "-d \"password=#\" h"),
            ("password=", "password="),
            ("\"password=\"", "\"password=\""),
            ("max_tokens=5 author=me key: x", "max_tokens=5 author=me key: x"),
            ("the password is x", "the password is x"),
            ("password", "password"),
            ("\u{e9}password=\u{e9} \u{e9}", "\u{e9}password=# \u{e9}"),
        ]);
    }

    #[test]
    fn headers() {
        check(&[
            ("Authorization: Bearer xyz", "Authorization: #"),
            ("authorization=Bearer xyz", "authorization=#"),
            ("-H \"Authorization: Bearer xyz\" h", "-H \"Authorization: #\" h"),
            ("-H 'Cookie: a=b; c=d' h", "-H 'Cookie: #' h"),
            ("\\\"Cookie: a=b; c=d\\\" h", "\\\"Cookie: #\\\" h"),
            ("Cookie=a=b; c=d", "Cookie=#"),
            ("{\"Authorization\": \"Basic a b\"}", "{\"Authorization\": #}"),
            ("x Bearer abcdefghij012345 y", "x Bearer # y"),
            ("x bearer abcdefghij012345", "x bearer #"),
            ("x bearer of bad news", "x bearer of bad news"),
            ("bearer", "bearer"),
        ]);
        assert_eq!(text("Bearer abc", true), "Bearer [redacted]");
    }

    #[test]
    fn options() {
        check(&[
            ("--password x y", "--password # y"),
            ("--password=x y", "--password=# y"),
            ("-token x y", "-token # y"),
            ("--api-key 'a b' y", "--api-key # y"),
            ("\"--api-key x\" y", "\"--api-key #\" y"),
            ("['--token', 'a b', 'c']", "['--token', #, 'c']"),
            ("[\"--token\",\"a b\"", "[\"--token\",#"),
            ("--max-tokens 5 --author me -p x", "--max-tokens 5 --author me -p x"),
            ("--password", "--password"),
        ]);
        assert!(is_secret_flag("--api-key") && is_secret_flag("-token"));
        assert!(!is_secret_flag("token") && !is_secret_flag("--token=x") && !is_secret_flag("--url"));
    }

    #[test]
    fn urls() {
        check(&[
            ("https://user:pass@host/p", "https://#@host/p"),
            ("x postgres://u:p@ss@host y", "x postgres://#@host y"),
            ("https://token@host", "https://#@host"),
            ("'https://u:p'w@host' x", "'https://#@host' x"),
            ("postgres://u:p/w@host", "postgres://#@host"),
            ("https://host/@user", "https://host/@user"),
            ("https://host:80/@user", "https://host:80/@user"),
            ("https://host:80/?q=a@b", "https://host:80/?q=a@b"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("https://host me@host", "https://host me@host"),
            ("\"https://host\",\"me@host\"", "\"https://host\",\"me@host\""),
            ("https://host:port/", "https://host:port/"),
            ("://", "://"),
        ]);
        assert_eq!(text("https://user:pa", true), "https://[redacted]");
        assert_eq!(text("https://user:pa", false), "https://user:pa");
    }

    #[test]
    fn private_keys() {
        check(&[
            ("a -----BEGIN RSA PRIVATE KEY-----\nMII", "a -----BEGIN RSA PRIVATE KEY-----#"),
            (
                "token=x -----BEGIN PRIVATE KEY-----MII\n-----END PRIVATE KEY-----",
                "token=# -----BEGIN PRIVATE KEY-----#",
            ),
            ("-----BEGIN PUBLIC KEY-----\nMII", "-----BEGIN PUBLIC KEY-----\nMII"),
        ]);
    }
}
