//! Random output: whatever a tool says, AgentScope reads what comes of it.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tower_offload::tool::ContentBlock;

use crate::both::Both;
use crate::hints::answer;
use crate::ours::{all_delivered, call, offload};
use crate::peer::array;

const BLOCKS: usize = 20;
const HINTS: usize = 100;

/// What URLs are made of, and what they trip over.
const PIECES: [&str; 56] = [
    "http",
    "https",
    "https://",
    "HTTP://",
    "file",
    "file:///",
    "s3://",
    "data:",
    "ws://",
    "mailto:",
    ":",
    "//",
    "/",
    "/",
    "\\",
    "@",
    "[",
    "]",
    "[::1]",
    "[::ffff:1.2.3.4]",
    "[v1.a]",
    "1.2.3.4",
    "1.2.3",
    "256",
    "0x7f.1",
    "example.com",
    "example.com",
    "EXAMPLE.com",
    "localhost",
    "xn--",
    "xn--mnchen-3ya.de",
    "ü",
    "ß",
    "a",
    "a-",
    "-a",
    "_",
    ".",
    "..",
    "%",
    "%zz",
    "%41",
    "%2F",
    " ",
    "\t",
    "\n",
    "\u{0}",
    "\u{ad}",
    "?",
    "#",
    ":80",
    ":99999",
    "+",
    "^",
    "|",
    "<",
];

fn url() -> impl Strategy<Value = String> {
    let pieces = proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8);
    let start =
        proptest::sample::select(vec!["", "http://", "https://", "https://example.com/", "s3:", "file://"]);
    (start, pieces).prop_map(|(start, pieces)| start.to_owned() + &pieces.concat())
}

fn block() -> impl Strategy<Value = ContentBlock> {
    let text = || prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,20}"];
    prop_oneof![
        text().prop_map(ContentBlock::from),
        (text(), text()).prop_map(|(media_type, data)| ContentBlock::base64(media_type, data)),
        url().prop_map(|url| ContentBlock::url("x/y", url)),
        url().prop_map(|url| ContentBlock::url("x/y", url)),
    ]
}

#[tokio::test]
async fn whatever_a_tool_says_is_read() {
    let both = Both::start().await;
    let mut runner = TestRunner::deterministic();
    let blocks = proptest::collection::vec(block(), BLOCKS);
    let (mut urls, mut refused) = (0, 0);
    for _ in 0..HINTS {
        let content = blocks.new_tree(&mut runner).unwrap().current();
        offload(&both.manager, call("S", "t"), answer(content.clone())).await;
        all_delivered(&both.manager).await;
        let raw: Value = serde_json::from_str(&both.raw("S").await).unwrap();
        // Alone, so that a failure names the one to blame.
        let read = both.peer.try_call("drain", json!({"session": "S"})).await;
        let [read] = array(read.unwrap_or_else(|error| panic!("{error}\n{raw:#}"))).try_into().unwrap();
        let mut expected = raw.clone();
        for (n, block) in array(raw["hint"].clone()).iter().enumerate() {
            if block["source"]["type"] == "url" {
                urls += 1;
                // It is written anew by the parser.
                expected["hint"][n]["source"]["url"] = read["hint"][n]["source"]["url"].clone();
            }
        }
        assert_eq!(read, expected);
        refused += content.iter().filter(|block| json!(block)["source"]["type"] == "url").count();
    }
    refused -= urls;
    assert!(urls > 100 && refused > 100, "{urls} URLs were told as such, and {refused} as text");
    both.peer.is_unharmed().await;
}
