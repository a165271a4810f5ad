use std::time::Duration;

use tower_offload::TaskMeta;
use tower_offload::bus::{Delivery, SharedBus, keys};

use super::{Harness, next, payloads, unique};

const LONG: Duration = Duration::from_secs(600);

/// Names that nobody should choose, and somebody will.
fn odd_keys() -> Vec<String> {
    let run = unique("odd");
    let mut keys: Vec<String> = [
        "",
        " ",
        "  two  ",
        "lock:x",
        "a:b:c",
        "*",
        "a?[b]",
        "{tag}",
        "'\"\\",
        "line\nbreak\r\n",
        "nul\0inside",
        "ключ 鍵 🗝",
        "e\u{301}",
        "\u{feff}",
        "$",
        "%2F..//",
        "-",
        "+",
        "0-0",
    ]
    .iter()
    .map(|key| format!("{run}{key}"))
    .collect();
    keys.push(format!("{run}{}", "k".repeat(10_000)));
    keys
}

fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "{}",
        "null",
        "not json",
        "\"",
        "\\",
        "\0",
        "a\0b",
        "line\nbreak\r\n",
        "\u{7f}\u{2028}\u{feff}",
        "ünïcode ✓ 🗝",
        "nil",
        "0",
        "-1",
        "1e999",
        "{\"a\": \"b\"}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(100_000));
    texts
}

async fn in_every_mode(bus: &SharedBus, key: &str, text: &str) {
    // On some buses the keys of all modes are in one space.
    let of = |mode: &str| format!("{mode}{key}");

    bus.set(&of("r"), key, text, None).await.unwrap();
    bus.set(&of("r"), "other", "", None).await.unwrap();
    assert_eq!(bus.get(&of("r"), key).await.unwrap().as_deref(), Some(text));
    assert!(bus.get_all(&of("r")).await.unwrap().contains(&(key.to_owned(), text.to_owned())));
    assert!(bus.set_if(&of("r"), key, "new", text, None).await.unwrap());
    assert!(bus.set_if(&of("r"), key, text, "new", None).await.unwrap());
    assert_eq!(bus.take(&of("r"), key).await.unwrap().as_deref(), Some(text));

    bus.push(&of("q"), text, None).await.unwrap();
    bus.push(&of("q"), text, None).await.unwrap();
    assert_eq!(payloads(&bus.drain(&of("q"), 9).await.unwrap()), [text, text]);

    bus.append(&of("l"), text, None, Some(10)).await.unwrap();
    assert_eq!(payloads(&bus.read(&of("l"), None, 9).await.unwrap()), [text]);
    bus.trim(&of("l"), None).await.unwrap();

    let mut subscription = bus.subscribe(&[&of("c")]).await.unwrap();
    bus.publish(&of("c"), text).await.unwrap();
    let message = next(&mut subscription).await;
    assert_eq!((&*message.channel, &*message.payload), (of("c").as_str(), text));

    assert!(bus.try_acquire(&of("k"), key, LONG).await.unwrap());
    assert!(bus.renew(&of("k"), key, LONG).await.unwrap());
    assert!(bus.release(&of("k"), key).await.unwrap());

    let meta = TaskMeta::new(key, "tool").with_session(key).with_agent(key);
    assert!(bus.deliver(&Delivery::new(key, &meta, text.to_owned())).await.unwrap());
    assert!(!bus.deliver(&Delivery::new(key, &meta, text.to_owned())).await.unwrap());
    assert_eq!(payloads(&bus.drain(&keys::inbox(key), 9).await.unwrap()), [text]);
    let wakeups = bus.drain(keys::WAKEUPS, 9).await.unwrap();
    let wakeup: serde_json::Value = serde_json::from_str(&wakeups[0].payload).unwrap();
    assert_eq!(wakeup["session_id"], key);
}

pub(crate) async fn any_key_works_in_every_mode(harness: impl Harness) {
    let bus = harness.bus();
    for key in odd_keys() {
        in_every_mode(&bus, &key, "{}").await;
    }
    // Nothing but the prefix of its mode, which is to say nothing at all where the modes have spaces of their own.
    in_every_mode(&bus, "", "{}").await;
    bus.set("", "", "", None).await.unwrap();
    assert_eq!(bus.take("", "").await.unwrap().as_deref(), Some(""));
    bus.push("", "", None).await.unwrap();
    assert_eq!(payloads(&bus.drain("", 9).await.unwrap()), [""]);
    bus.delete("").await.unwrap();
    assert!(bus.try_acquire("", "", LONG).await.unwrap());
    assert!(bus.release("", "").await.unwrap());
}

pub(crate) async fn any_text_is_kept_as_it_is(harness: impl Harness) {
    let bus = harness.bus();
    for text in odd_texts() {
        in_every_mode(&bus, &unique("text"), &text).await;
    }
}

pub(crate) async fn a_megabyte_is_kept_as_it_is(harness: impl Harness) {
    let bus = harness.bus();
    let text = "é\"\\ 123".repeat((1 << 20) / 8);
    assert_eq!(text.len(), 1 << 20);
    in_every_mode(&bus, &unique("megabyte"), &text).await;
}
