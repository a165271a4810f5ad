use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn check(table: &[(&str, &str)]) {
    for (secret, shown) in table {
        assert_eq!(redact(secret), shown.replace('#', MARK), "{secret}");
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
    assert_eq!(redact_start("Bearer abc", true), "Bearer [redacted]");
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
    assert_eq!(redact_start("https://user:pa", true), "https://[redacted]");
    assert_eq!(redact_start("https://user:pa", false), "https://user:pa");
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

#[test]
fn users_with_a_password() {
    check(&[
        ("curl -u alice:x https://h", "curl -u # https://h"),
        ("curl -ualice:x https://h", "curl -u# https://h"),
        ("curl -sSu alice:x h", "curl -sSu # h"),
        ("curl -fsSLu 'alice:x y' h", "curl -fsSLu # h"),
        ("curl -vualice:x h", "curl -vu# h"),
        ("curl -su\"alice:x\" h", "curl -su# h"),
        ("[\"curl\",\"-sU\",\"a:b\",\"h\"]", "[\"curl\",\"-sU\",#,\"h\"]"),
        ("curl -ou:x h", "curl -ou:x h"),
        ("curl -su alice h", "curl -su alice h"),
        ("tar -xu a:b", "tar -xu a:b"),
        ("curl --user alice:x h", "curl --user # h"),
        ("curl --user=alice:x h", "curl --user=# h"),
        ("curl -U 'proxy:a b' h", "curl -U # h"),
        ("curl --proxy-user \"a:b\" h", "curl --proxy-user # h"),
        ("smbclient -U alice%x //h/s", "smbclient -U # //h/s"),
        ("[\"curl\",\"-u\",\"a:b\",\"h\"]", "[\"curl\",\"-u\",#,\"h\"]"),
        ("curl -u alice h", "curl -u alice h"),
        ("docker run -u 1000:1000 i", "docker run -u 1000:1000 i"),
        ("git push -u origin main:main", "git push -u origin main:main"),
        ("ffuf -u https://h/FUZZ", "ffuf -u https://h/FUZZ"),
        ("sort -u", "sort -u"),
        ("--user", "--user"),
    ]);
}

#[test]
fn short_options_with_a_password() {
    check(&[
        ("sshpass -p x ssh -p 22 h", "sshpass -p # ssh -p # h"),
        ("sshpass -psecret ssh h", "sshpass -p# ssh h"),
        ("mysql -u root -psecret db", "mysql -u root -p# db"),
        ("/usr/bin/mysqldump -psecret db", "/usr/bin/mysqldump -p# db"),
        ("mysql -uroot -p'a b' db", "mysql -uroot -p# db"),
        ("docker login -u me -p x h", "docker login -u me -p # h"),
        ("tool -u me -p 'a b' h", "tool -u me -p # h"),
        ("tool -p x -u me", "tool -p # -u me"),
        ("unzip -P x a.zip", "unzip -P # a.zip"),
        ("redis-cli -a x ping", "redis-cli -a # ping"),
        ("ldapsearch -D cn=a -w x", "ldapsearch -D cn=a -w #"),
        ("[\"tool\",\"-u\",\"me\",\"-p\",\"a b\"]", "[\"tool\",\"-u\",\"me\",\"-p\",#]"),
    ]);
}

#[test]
fn other_short_options_stay() {
    for same in [
        "ssh -p 2222 host",
        "mkdir -p path/to/dir",
        "mkdir -p a && curl -u alice https://h",
        "docker run -u app -p 8080:80/tcp -p 127.0.0.1:1:2 i",
        "cargo test -p tower-offload",
        "psql -U alice -p 5432 db",
        "cp -u -p a b",
        "cp -p -u a b",
        "tar -xpf a.tar",
        "read -p Name x; mysql -u root db",
        "gcc -pthread -Wall a.c",
        "find . -user me -print",
        "ps -p 1",
        "-p",
        "-",
    ] {
        assert_eq!(redact(same), same);
    }
}

#[test]
fn tokens() {
    check(&[
        ("got ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8.", "got #."),
        ("key (AKIAIOSFODNN7EXAMPLE) is off", "key (#) is off"),
        ("https://h/?k=AIzaSyA1B2C3D4E5F6G7H8I9J0K1L2M3N4O5P6Q&x=1", "https://h/?k=#&x=1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired", "# expired"),
        ("Incorrect API key provided: sk-proj-a1B2c3D4e5F6g7H8i9J0k1", "Incorrect API key provided: #"),
        ("ghp_short sk-learn xoxb", "ghp_short sk-learn xoxb"),
    ]);
    assert_eq!(
        redact("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxyz"),
        "-----BEGIN PGP PRIVATE KEY BLOCK-----[redacted]"
    );
}

#[test]
fn a_value_ends_with_its_line() {
    check(&[
        ("unexpected token: x y\n --> src/a.rs:1", "unexpected token: #\n --> src/a.rs:1"),
        ("Authorization: Bearer x\r\nHost: h", "Authorization: #\r\nHost: h"),
        ("private_key: |\n  a\n  b", "private_key: #"),
        ("cookies: [\n a,\n b\n]", "cookies: #"),
    ]);
}

#[test]
fn a_host_that_is_too_long_is_none() {
    let long = "x".repeat(1000);
    assert_eq!(redact(&format!("https://user:{long}")), "https://[redacted]");
    assert_eq!(redact(&format!("https://h/{long}")), format!("https://h/{long}"));
}

#[test]
fn prose_and_code_stay() {
    for same in [
        "error[E0308]: mismatched types\n --> src/task/redact/mod.rs:12:5\n  |\n12 |     let x: u32 = \"a\";",
        "thread 'main' panicked at src/main.rs:3:5: index out of bounds: the len is 1 but the index is 2",
        "No such file or directory (os error 2): /home/alice/.config/app.toml",
        "exit status: 101; 3 of 14 tests failed in 0.25s (max_tokens=4096)",
        "GET https://example.org:8080/a/b?q=1#frag answered 503 Service Unavailable",
        "the bearer of bad news, a secretary and an author met; see C:\\Users\\me",
        "fn token_count(tokens_used: usize, key: &str) -> HashMap<String, Vec<u8>> { a::b(c) }",
        "make: *** [Makefile:7: all] Error 1",
        "5d2c1cf0-6a0f-4a55-9d6c-0a1f3d5c7b21 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "日本語 ünïcode — 🦀",
    ] {
        assert!(matches!(redact(same), Cow::Borrowed(text) if text == same), "{}", redact(same));
    }
}

/// Pieces that begin, end or nest what the scanner looks for.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "password", "token", "=", ": ", ":", "\"", "'", "`", "\\", "\\\\", "://", "@", "/", "--token ", "-p ", "-u ",
            "Bearer ", "Cookie: ", " ", "\n", ";", "a", "sk-", "ghp_", "eyJ", "-", "_", ".", "mysql ", "curl ", "login ",
            "[redacted]", "[", "]", "{", "|", ",", "user:pw", "PRIVATE KEY-----", "a1B2c3D4e5F6g7H8i9J0k1L2",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,5}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn looked(text: &str) -> usize {
    let mut scanner = Scanner::new(text, false);
    let _ = scanner.scan();
    scanner.looked
}

#[test]
fn signatures_of_presigned_urls() {
    for (text, shown) in [
        ("https://h/o?X-Amz-Signature=0a1b&x=1 end", "https://h/o?X-Amz-Signature=[redacted] end"),
        ("https://h/o?se=2026&sig=a%2Fb%3D", "https://h/o?se=2026&sig=[redacted]"),
        ("GET /o?Expires=1&Signature=QWE~ HTTP/1.1", "GET /o?Expires=1&Signature=[redacted] HTTP/1.1"),
        ("https://h/o?awsSignature=1&b=2", "https://h/o?awsSignature=[redacted]"),
        ("https://h/o?x-goog-signature=00ff", "https://h/o?x-goog-signature=[redacted]"),
    ] {
        assert_eq!(redact(text), shown);
    }
    for same in ["signature: fn(u8)", "sig=SIGTERM", "kill -s sig", "the signature=x of a method"] {
        assert_eq!(redact(same), same);
    }
}

#[test]
fn credentials_in_the_line_after_their_scheme() {
    for (text, shown) in [
        ("Authorization: Bearer\n s3cr3t-t0ken\nHost: h", "Authorization: [redacted]\nHost: h"),
        ("authorization: basic \r\n\tYWxpY2U6cHc=", "authorization: [redacted]"),
        ("Authorization: Bearer", "Authorization: [redacted]"),
        ("Authorization: Bearer x\nHost: h", "Authorization: [redacted]\nHost: h"),
    ] {
        assert_eq!(redact(text), shown);
    }
}

#[test]
fn an_argument_in_the_next_line_of_a_shell() {
    for (text, shown) in [
        ("curl -u \\\n  alice:s3cr3t https://h", "curl -u \\\n  [redacted] https://h"),
        ("curl --user \\\r\n alice:s3cr3t", "curl --user \\\r\n [redacted]"),
        ("tool --password \\\n\\\n hunter2 end", "tool --password \\\n\\\n [redacted] end"),
        ("mysql -u root \\\n -ps3cr3t db", "mysql -u root \\\n -p[redacted] db"),
        ("sshpass \\\r\n -p x ssh h", "sshpass \\\r\n -p [redacted] ssh h"),
        ("curl -s \\\n -sSu alice:x h", "curl -s \\\n -sSu [redacted] h"),
        ("tool -u me \\\n -p x", "tool -u me \\\n -p [redacted]"),
        ("mysql\n-px", "mysql\n-px"),
    ] {
        assert_eq!(redact(text), shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_redacted_text_is_not_changed_again(text in pieces()) {
        let once = redact(&text).into_owned();
        prop_assert_eq!(redact(&once), once.as_str(), "of {:?}", text);
    }

    #[test]
    fn words_and_paths_stay(text in "([a-z]{1,9}[ ,./]{1,2}){0,12}") {
        prop_assume!(!text.split(|c: char| !c.is_alphabetic()).any(keys::is_secret));
        prop_assert_eq!(redact(&text), text.as_str());
    }

    /// Counted are the bytes that the scanner looks at, whatever is repeated how often.
    #[test]
    fn the_work_grows_with_the_length_and_no_faster(start in pieces(), piece in pieces(), end in pieces()) {
        let text = format!("{start}{}{end}", piece.repeat(8_000 / piece.len().max(1)));
        let bound = 40 * (text.len() + 100);
        prop_assert!(looked(&text) <= bound, "{} for {} of {:?}", looked(&text), text.len(), piece);
    }
}

#[test]
fn hostile_texts_are_looked_at_a_few_times() {
    for piece in [
        "://a:b/",
        "a='\\'b",
        "token=\"'",
        "-u '",
        "-p \"x ",
        "sk-",
        "eyJ-",
        "\\\\\"a",
        "a\\\"",
        "[",
        "Bearer Bearer ",
        "token",
        "a ",
        "\"",
        "'-u \"",
    ] {
        for size in [1_000, 20_000] {
            let text = piece.repeat(size / piece.len());
            assert!(looked(&text) <= 40 * text.len(), "{piece:?}: {} for {}", looked(&text), text.len());
            let text = format!("curl -u x: mysql {text}");
            assert!(looked(&text) <= 40 * text.len(), "{piece:?}: {} for {}", looked(&text), text.len());
        }
    }
    // Each quote is nested one deeper than the one before.
    let nested: String = (0..400).map(|depth| format!("a{}\"", "\\".repeat(depth))).collect();
    let text = format!("token={nested}");
    assert!(looked(&text) <= 40 * text.len(), "{} for {}", looked(&text), text.len());
}
