use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[test]
fn every_rule() {
    let a = |n: usize| "a".repeat(n);
    let table: Vec<(String, String)> = [
        // No JSON.
        ("", "Tool"),
        (" \n\t", "Tool"),
        ("make -j2", "Tool(make -j2)"),
        ("{\"a\":", "Tool({\"a\":)"),
        ("{\"a\":1}x", "Tool({\"a\":1}x)"),
        ("\u{feff}{}", "Tool(\u{feff}{})"),
        ("a\nb\u{85}c\u{2028}d\u{2029}e", "Tool(a b c d e)"),
        (" a ", "Tool( a )"),
        // No object, or an empty one.
        ("1", "Tool"),
        ("1e400", "Tool"),
        ("\"text\"", "Tool"),
        ("null", "Tool"),
        ("[{\"a\":1}]", "Tool"),
        (" { } ", "Tool"),
        // Order, types, numbers as written.
        ("{\"z\":1,\"a\":2}", "Tool(z=1, a=2)"),
        (" { \"z\" : 1 ,\n\"a\" : 2 } ", "Tool(z=1, a=2)"),
        ("{\"a\":1,\"a\":2}", "Tool(a=1, a=2)"),
        ("{\"a\":true,\"b\":false,\"c\":null}", "Tool(a=true, b=false, c=null)"),
        ("{\"a\":1e400,\"b\":-0.0,\"c\":1.10}", "Tool(a=1e400, b=-0.0, c=1.10)"),
        ("{\"a\":12345678901234567890123}", "Tool(a=12345678901234567890123)"),
        ("{\"\":\"\"}", "Tool(=)"),
        // Strings.
        (r#"{"a":"x","b":"  \" \\ \/ y "}"#, r#"Tool(a=x, b=  " \ / y )"#),
        (r#"{"a":"\u00e9\ud83d\ude00\n\u0000\u007f\b\f\r\t."}"#, "Tool(a=\u{e9}\u{1f600}       .)"),
        (r#"{"a\n":"\ud83d","b":"\ud83d\u0041","c":"\ude00"}"#, "Tool(a =\u{fffd}, b=\u{fffd}A, c=\u{fffd})"),
        (r#"{"a":"\ud83d\ud83d\ude00"}"#, "Tool(a=\u{fffd}\u{1f600})"),
        // Arrays and objects.
        (r#"{"a": [ 1, [ ], { } , {"b" : [ "c" , null ]} ] }"#, r#"Tool(a=[1,[],{},{"b":["c",null]}])"#),
        (r#"{"a":["\"\\\n\r\t\u0001\u0085"], "b":1}"#, r#"Tool(a=["\"\\\n\r\t\u0001 "], b=1)"#),
        (r#"{"a":{"}":"{]\\"},"b":2}"#, r#"Tool(a={"}":"{]\\"}, b=2)"#),
    ]
    .into_iter()
    .map(|(input, summary)| (input.to_owned(), summary.to_owned()))
    .chain([
        // 64 and 65 characters of text.
        (a(64), format!("Tool({})", a(64))),
        (a(65), format!("Tool({}...)", a(64))),
        ("\u{e9}".repeat(65), format!("Tool({}...)", "\u{e9}".repeat(64))),
        // 40 and 41 characters of a value.
        (format!(r#"{{"a":"{}"}}"#, a(40)), format!("Tool(a={})", a(40))),
        (format!(r#"{{"a":"{}"}}"#, a(41)), format!("Tool(a={}...)", a(37))),
        (format!(r#"{{"a":{}}}"#, "1".repeat(41)), format!("Tool(a={}...)", "1".repeat(37))),
        (format!(r#"{{"a":["{}"]}}"#, a(36)), format!(r#"Tool(a=["{}"])"#, a(36))),
        (format!(r#"{{"a":["{}"]}}"#, a(37)), format!(r#"Tool(a=["{}...)"#, a(35))),
        // A pair that ends at 128, one that ends at 129, and one that leaves no room for `, ...)`.
        (format!(r#"{{"{}":1}}"#, a(120)), format!("Tool({}=1)", a(120))),
        (format!(r#"{{"{}":1}}"#, a(121)), "Tool(...)".to_owned()),
        (format!(r#"{{"b":1,"{}":1}}"#, a(115)), format!("Tool(b=1, {}=1)", a(115))),
        (format!(r#"{{"b":1,"{}":1}}"#, a(116)), "Tool(b=1, ...)".to_owned()),
        (format!(r#"{{"{}":1,"{}":2}}"#, a(115), a(9)), format!("Tool({}=1, ...)", a(115))),
        (format!(r#"{{"{}":1,"{}":2}}"#, a(116), a(9)), "Tool(...)".to_owned()),
        (format!(r#"{{"{}":1,"b":2}}"#, a(200)), "Tool(...)".to_owned()),
    ])
    .collect();
    for (input, summary) in table {
        assert_eq!(summarize("Tool", Some(&input)), summary, "{input}");
    }
    assert_eq!(summarize("Tool", None), "Tool");
}

#[test]
fn a_name_is_cut_as_little_as_must_be() {
    let name = |n: usize| "n".repeat(n);
    let pair = Some(r#"{"a":1}"#);
    assert_eq!(summarize("", None), "");
    assert_eq!(summarize("", Some("x")), "(x)");
    assert_eq!(summarize("a\nb\u{2028}", pair), "a b (a=1)");
    assert_eq!(summarize(&name(128), None), name(128));
    assert_eq!(summarize(&name(129), None), name(125) + "...");
    assert_eq!(summarize(&name(129), Some("{}")), name(125) + "...");
    assert_eq!(summarize(&name(123), pair), name(123) + "(a=1)");
    assert_eq!(summarize(&name(124), pair), name(120) + "...(a=1)");
    assert_eq!(summarize(&name(124), Some("four")), name(120) + "...(...)");
    assert_eq!(summarize(&name(124), Some("ab")), name(120) + "...(ab)");
    assert_eq!(summarize(&name(60), Some(&name(99))), name(60) + "(" + &name(63) + "...)");
    assert_eq!(summarize(&name(63), Some(&name(64))), name(63) + "(" + &name(60) + "...)");
    assert_eq!(summarize(&name(62), Some(&name(64))), name(62) + "(" + &name(64) + ")");
}

#[test]
fn secrets_are_not_shown() {
    let table = [
        (r#"{"password":"x","b":1}"#, "Tool(password=[redacted], b=1)"),
        (r#"{"p\u0061ssword":"x"}"#, "Tool(password=[redacted])"),
        (r#"{"cookies":["x",{"y":"]}"}],"b":1}"#, "Tool(cookies=[redacted], b=1)"),
        (r#"{"token":null,"max_tokens":5}"#, "Tool(token=[redacted], max_tokens=5)"),
        (r#"{"a":{"Api-Key":["x"],"b":1}}"#, r#"Tool(a={"Api-Key":"[redacted]","b":1})"#),
        (r#"{"a":[{"pwd":1},{"b":{"jwt":2}}]}"#, r#"Tool(a=[{"pwd":"[redacted]"},{"b":{"jwt":"[r...)"#),
        (r#"{"a":["--token","x","y"]}"#, r#"Tool(a=["--token","[redacted]","y"])"#),
        (r#"{"a":["tool","-u","me","-p","x"]}"#, r#"Tool(a=["tool","-u","me","-p","[redacted]"])"#),
        (r#"{"a":["mysql","-px","-p"]}"#, r#"Tool(a=["mysql","-p[redacted]","-p"])"#),
        (r#"{"a":["ssh","-p","22",{"-p":1}]}"#, r#"Tool(a=["ssh","-p","22",{"-p":1}])"#),
        (r#"{"a":["--token",["x"],"y"]}"#, r#"Tool(a=["--token","[redacted]","y"])"#),
        (r#"{"a":["curl","-sSu","a:b"]}"#, r#"Tool(a=["curl","-sSu","[redacted]"])"#),
        (r#"{"a":["curl","-sua:b"]}"#, r#"Tool(a=["curl","-su[redacted]"])"#),
        (
            r#"{"a":["curl","-u","a:b"],"c":"-u a:b"}"#,
            r#"Tool(a=["curl","-u","[redacted]"], c=-u [redacted])"#,
        ),
        (r#"{"a":["token","x"]}"#, r#"Tool(a=["token","x"])"#),
        (r#"{"a":["secret=\"x y\"","b"]}"#, r#"Tool(a=["secret=[redacted]","b"])"#),
        (r#"{"a":"{\"token\":\"x\",\"b\":1}"}"#, r#"Tool(a={"token":[redacted],"b":1})"#),
        (r#"{"pwd=x y":1,"http://u:x@h":2}"#, "Tool(pwd=[redacted] y=[redacted], http://[redacted]@h=2)"),
        ("curl --password x h", "Tool(curl --password [redacted] h)"),
        (r#"{"password":"x", "b": "#, r#"Tool({"password":[redacted], "b": )"#),
    ];
    for (input, summary) in table {
        assert_eq!(summarize("Tool", Some(input)), summary, "{input}");
    }
}

#[test]
fn a_secret_beyond_the_part_that_is_looked_at_leaves_dots() {
    let long = "x".repeat(5000);
    let shown = |input: String| summarize("Tool", Some(&input));
    assert_eq!(shown(format!("pwd={long}")), "Tool(pwd=[redacted]...)");
    assert_eq!(shown(format!(r#"{{"a":"pwd={long} y","b":1}}"#)), "Tool(a=pwd=[redacted]..., b=1)");
    assert_eq!(shown(format!(r#"{{"a":["pwd={long}"],"b":1}}"#)), r#"Tool(a=["pwd=[redacted]..., b=1)"#);
    assert_eq!(shown(format!(r#"{{"a":"http://u:{long}@h"}}"#)), "Tool(a=http://[redacted]...)");
    let key = format!(r#"{{"http://u:{long}@h/password":"y"}}"#);
    assert_eq!(shown(key), "Tool(http://[redacted]...=[redacted])");
}

#[test]
fn huge_and_deep_inputs_are_just_inputs() {
    const MANY: usize = 1_000_000;
    let huge = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(10 * MANY));
    let long = "x".repeat(MANY);
    let x37 = "x".repeat(37);
    assert_eq!(summarize("T", Some(&huge)), format!("T(a={x37}..., b=1)"));
    assert_eq!(summarize("T", Some(&format!(r#"{{"{long}":1}}"#))), "T(...)");
    let spaces = " ".repeat(MANY);
    assert_eq!(summarize("T", Some(&format!(r#"{{"a":{spaces}1{spaces}}}"#))), "T(a=1)");
    let deep = format!(r#"{{"a":{}{},"b":1}}"#, "[".repeat(MANY), "]".repeat(MANY));
    assert_eq!(summarize("T", Some(&deep)), format!("T(a={}..., b=1)", "[".repeat(37)));
    let deep = format!(r#"{{"pwd":{}1{},"b":1}}"#, r#"{"a":"#.repeat(MANY), "}".repeat(MANY));
    assert_eq!(summarize("T", Some(&deep)), "T(pwd=[redacted], b=1)");
    assert_eq!(summarize("T", Some(&"[".repeat(MANY))), format!("T({}...)", "[".repeat(64)));
    assert_eq!(chars(&summarize(&long, Some(&long))), 128);
}

fn any_text() -> impl Strategy<Value = String> {
    // Quotes, brackets, controls and what may begin a secret are too rare among all of Unicode.
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        3 => "[ -~\n\t\u{7f}\u{85}\u{2028}]{1,9}",
        1 => r#"[\\"'`:=@/ -]{1,5}"#,
        1 => prop::sample::select(vec![
            "password", "://", "--token ", "Bearer ", "PRIVATE KEY-----", "Authorization: ", "\\u12", "{\"a\":",
        ]).prop_map(String::from),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((any_text(), inner), 0..8).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn check(tool_name: &str, input: Option<&str>) -> Result<(), TestCaseError> {
    let summary = summarize(tool_name, input);
    prop_assert!(chars(&summary) <= 128, "{summary}");
    prop_assert!(
        !summary.contains(|c: char| c.is_control() || "\u{2028}\u{2029}".contains(c)),
        "{summary:?}"
    );
    if summary != name(tool_name, 128) {
        let rest = summary.strip_prefix(&name(tool_name, 123));
        prop_assert!(rest.is_some_and(|rest| rest.starts_with('(') && rest.ends_with(')')), "{summary}");
    }
    Ok(())
}

/// A text with `Zq` all over it, and nothing else in it where that would be needed to tell.
fn any_secret() -> impl Strategy<Value = String> {
    vec(any_text(), 1..4).prop_map(|parts| {
        let parts: Vec<_> = parts.iter().map(|part| part.replace(['Z', 'q'], "")).collect();
        format!("Zq{}Zq", parts.join("Zq"))
    })
}

fn any_secret_key() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        &["password"][..],
        &["passwd"],
        &["passphrase"],
        &["secret"],
        &["token"],
        &["tokens"],
        &["cookie"],
        &["api", "key"],
        &["access", "key"],
        &["private", "key"],
        &["authorization"],
        &["credentials"],
        &["session", "token"],
        &["bearer"],
        &["client", "secret"],
        &["db", "pass"],
        &["my", "pwd"],
    ]);
    let style: [fn(&[&str]) -> String; 6] = [
        |words| words.join("_"),
        |words| words.join("-"),
        |words| words.join("_").to_uppercase(),
        |words| words.join("."),
        |words| words.iter().map(|word| word[..1].to_uppercase() + &word[1..]).collect(),
        |words| {
            let title: String = words.iter().map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            title[..1].to_lowercase() + &title[1..]
        },
    ];
    let before = prop::sample::select(vec![None, Some("x"), Some("user"), Some("proxy")]);
    (before, words, prop::sample::select(style.to_vec())).prop_map(|(before, words, style)| {
        style(&before.into_iter().chain(words.iter().copied()).collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn any_text_gives_one_short_line(tool_name in any_text(), input in any_text()) {
        check(&tool_name, None)?;
        check(&tool_name, Some(&input))?;
    }

    #[test]
    fn any_json_gives_one_short_line(tool_name in any_text(), input in any_json(), at in any::<prop::sample::Index>()) {
        let mut input = input.to_string();
        check(&tool_name, Some(&input))?;
        while !input.is_char_boundary(at.index(input.len() + 1)) {
            input.pop();
        }
        check(&tool_name, Some(&input[..at.index(input.len() + 1)]))?;
    }

    #[test]
    fn an_innocent_object_is_shown_as_it_is(pairs in vec(("[a-f]{1,5}", "[a-f{}\\[\\] ]{0,9}"), 1..6)) {
        let json: Vec<_> = pairs.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
        let shown: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        prop_assert_eq!(
            summarize("T", Some(&format!("{{{}}}", json.join(",")))),
            format!("T({})", shown.join(", "))
        );
    }

    /// Cut anywhere, too, when it is no JSON any more.
    #[test]
    fn no_secret_under_a_secret_key(
        key in any_secret_key(), secret in any_secret(), wrap in 0..5, pretty: bool, at in any::<prop::sample::Index>()
    ) {
        let value = match wrap % 2 {
            0 => serde_json::json!({ &key: &secret, "b": 1 }),
            _ => serde_json::json!({ "b": [1, { &key: &secret }] }),
        };
        let value = match wrap {
            2 => serde_json::json!({ "a": value }),
            3 => serde_json::json!({ "a": value.to_string() }),
            4 => serde_json::json!({ &key: value }),
            _ => value,
        };
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        let summary = summarize("T", Some(&text));
        prop_assert!(!summary.contains("Zq"), "{summary} of {text}");
        let cut: String = text.chars().take(at.index(chars(&text) + 1)).collect();
        let summary = summarize("T", Some(&cut));
        prop_assert!(!summary.contains("Zq"), "{summary} of {cut}");
    }

    #[test]
    fn no_secret_in_a_text(key in any_secret_key(), secret in "[!-~]{0,30}", form in 0..7, json: bool) {
        let secret = format!("Zq{}Zq", secret.replace(['"', '\'', '`', '\\'], "Zq"));
        let text = match form {
            0 => format!("run {key}={secret} go"),
            1 => format!("run --{key} {secret} go"),
            2 => format!("{key}: {secret} {secret}"),
            3 => format!("curl -H '{key}: {secret} {secret}' h"),
            4 => format!("{{'{key}': '{secret} {secret}'}}"),
            5 => format!("curl -d \"{key}={secret} {secret}\" h"),
            _ => format!("psql postgres://{key}:{}@h/x", secret.replace(['<', '>', '@'], "%40")),
        };
        let input = if json { serde_json::json!({ "a": text }).to_string() } else { text.clone() };
        let summary = summarize("T", Some(&input));
        prop_assert!(!summary.contains("Zq"), "{summary} of {text}");
        prop_assert!(summary.contains("[r"), "{summary} of {text}");
    }
}
