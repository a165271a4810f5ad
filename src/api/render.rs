//! Records as JSON: the bytes of a [`BackgroundTaskInfo`] and of a [`ListBackgroundTasksResponse`], without making one.
//!
//! A list is what clients poll. Written straight from the records it costs a fraction of twelve new strings for each
//! task and a serialiser that looks at each of their bytes.
//!
//! [`BackgroundTaskInfo`]: crate::task::BackgroundTaskInfo
//! [`ListBackgroundTasksResponse`]: crate::task::ListBackgroundTasksResponse

use uuid::Uuid;

use super::times::Times;
use crate::task::TaskRecord;

/// The members of a task without its texts, and some room for those.
const TASK: usize = 512;

pub(super) fn list(tasks: &[TaskRecord]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + TASK * tasks.len());
    let mut times = Times::new();
    out.extend_from_slice(b"{\"tasks\":[");
    for (index, task) in tasks.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_task(&mut out, &mut times, task);
    }
    out.extend_from_slice(b"],\"total\":");
    out.extend_from_slice(tasks.len().to_string().as_bytes());
    out.push(b'}');
    out
}

pub(super) fn task(task: &TaskRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(TASK);
    write_task(&mut out, &mut Times::new(), task);
    out
}

fn write_task(out: &mut Vec<u8>, times: &mut Times, task: &TaskRecord) {
    let meta = &task.meta;
    // They are one after the other: one look is enough for all of them.
    let plain = !needs_escapes(meta.all_texts().as_bytes());
    let text = |out: &mut Vec<u8>, content: &str| {
        if plain {
            out.extend_from_slice(content.as_bytes());
        } else {
            text(out, content);
        }
    };
    // Each piece has the quotes of its neighbours: fewer pieces are faster.
    out.extend_from_slice(b"{\"task_id\":\"");
    out.extend_from_slice(&hyphenated(task.id.as_uuid()));
    out.extend_from_slice(b"\",\"session_id\":\"");
    text(out, meta.session_id());
    out.extend_from_slice(b"\",\"agent_id\":\"");
    text(out, meta.agent_id());
    out.extend_from_slice(b"\",\"tool_name\":\"");
    text(out, meta.tool_name());
    out.extend_from_slice(b"\",\"summary\":\"");
    text(out, meta.summary());
    out.extend_from_slice(b"\",\"status\":\"");
    out.extend_from_slice(task.status.as_str().as_bytes());
    out.extend_from_slice(b"\",\"started_at\":");
    times.write(out, task.started_at);
    out.extend_from_slice(b",\"completed_at\":");
    or_null(out, task.completed_at, |out, time| times.write(out, time));
    if let (None, None, None) = (&task.error_summary, task.failure_reason, task.cancel_requested_at) {
        out.extend_from_slice(
            b",\"error_summary\":null,\"failure_reason\":null,\"cancel_requested_at\":null,\"call_id\":",
        );
    } else {
        out.extend_from_slice(b",\"error_summary\":");
        or_null(out, task.error_summary.as_deref(), quoted);
        out.extend_from_slice(b",\"failure_reason\":");
        or_null(out, task.failure_reason.as_ref(), |out, reason| quoted(out, reason.as_str()));
        out.extend_from_slice(b",\"cancel_requested_at\":");
        or_null(out, task.cancel_requested_at, |out, time| times.write(out, time));
        out.extend_from_slice(b",\"call_id\":");
    }
    or_null(out, meta.call_id(), |out, call_id| {
        out.push(b'"');
        text(out, call_id);
        out.push(b'"');
    });
    out.push(b'}');
}

/// As `Uuid` writes itself, in half the instructions: a list has an id for each task.
fn hyphenated(id: &Uuid) -> [u8; 36] {
    const DIGITS: [[u8; 2]; 256] = {
        let (hex, mut digits, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
        while byte < 256 {
            digits[byte] = [hex[byte >> 4], hex[byte & 15]];
            byte += 1;
        }
        digits
    };
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, at) in id.as_bytes().iter().zip(AT) {
        text[at..at + 2].copy_from_slice(&DIGITS[*byte as usize]);
    }
    text
}

fn or_null<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn quoted(out: &mut Vec<u8>, content: &str) {
    out.push(b'"');
    text(out, content);
    out.push(b'"');
}

/// What is between the quotes.
fn text(out: &mut Vec<u8>, text: &str) {
    if needs_escapes(text.as_bytes()) {
        escaped(out, text);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cold]
fn escaped(out: &mut Vec<u8>, text: &str) {
    // Text can always be written.
    if let [_, content @ .., _] = &*serde_json::to_vec(text).unwrap_or_default() {
        out.extend_from_slice(content);
    }
}

/// Whether JSON writes one of the bytes in another way: a control, a quote or a backslash.
fn needs_escapes(bytes: &[u8]) -> bool {
    // Eight at a time, or twice four. The last ones may overlap with those before.
    if let Some(last) = bytes.last_chunk() {
        let (chunks, _) = bytes.as_chunks();
        return chunks.iter().fold(special(*last), |found, chunk| found | special(*chunk)) != 0;
    }
    if let (Some(&[a, b, c, d]), Some(&[e, f, g, h])) = (bytes.first_chunk(), bytes.last_chunk()) {
        return special([a, b, c, d, e, f, g, h]) != 0;
    }
    bytes.iter().any(|&byte| byte < b' ' || byte == b'"' || byte == b'\\')
}

/// Not zero if one of eight bytes needs an escape. The highest bit of each byte of the answer tells: subtracting sets it
/// if the byte was smaller, or if it was set before, which UTF-8 beyond ASCII has.
const fn special(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let bytes = u64::from_ne_bytes(bytes);
    let quote = bytes ^ (EACH * b'"' as u64);
    let backslash = bytes ^ (EACH * b'\\' as u64);
    let smaller =
        bytes.wrapping_sub(EACH * b' ' as u64) | quote.wrapping_sub(EACH) | backslash.wrapping_sub(EACH);
    smaller & !bytes & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::task::{
        BackgroundTaskInfo, FailureReason, ListBackgroundTasksResponse, TaskId, TaskMeta, TaskStatus,
    };

    fn texts() -> impl Strategy<Value = String> {
        let special = prop::collection::vec(
            prop_oneof![any::<char>(), (0..0x80_u8).prop_map(char::from), Just('"'), Just('\\')],
            0..70,
        );
        prop_oneof!["[ -~]{0,70}", special.prop_map(|chars| chars.into_iter().collect::<String>())]
    }

    /// Also before 1970, and outside of what RFC 3339 can write.
    fn times() -> impl Strategy<Value = SystemTime> {
        let nanos = 0..1_000_000_000_u32;
        let seconds = prop_oneof![
            1_790_000_000..1_800_000_000_i64,
            -1_000_000_000_000..1_000_000_000_000_i64,
            Just(0),
            Just(-62_167_219_200),
            Just(-62_167_219_201),
            Just(253_402_300_799),
        ];
        (seconds, nanos).prop_map(|(seconds, nanos)| {
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let start = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
            start + Duration::from_nanos(nanos.into())
        })
    }

    fn records() -> impl Strategy<Value = TaskRecord> {
        let reasons = [
            FailureReason::Error,
            FailureReason::Panic,
            FailureReason::TimedOut,
            FailureReason::WorkerLost,
            FailureReason::Shutdown,
            FailureReason::from("quota_exceeded"),
        ];
        (
            (texts(), texts(), texts(), texts(), prop::option::of(texts())),
            (times(), prop::option::of(times()), prop::option::of(times())),
            prop::option::of(texts()),
            prop::sample::select(&TaskStatus::ALL),
            prop::option::of(prop::sample::select(reasons.to_vec())),
        )
            .prop_map(|(texts, times, error, status, reason)| {
                let (session, agent, tool, summary, call) = texts;
                let mut meta =
                    TaskMeta::new("u", tool).with_session(session).with_agent(agent).with_summary(summary);
                if let Some(call) = call {
                    meta = meta.with_call_id(call);
                }
                let mut record = TaskRecord::running(TaskId::new(), meta, times.0);
                record.status = status;
                record.failure_reason = reason;
                record.error_summary = error.map(Into::into);
                (record.completed_at, record.cancel_requested_at) = (times.1, times.2);
                record
            })
    }

    #[test]
    fn each_byte_that_needs_an_escape_is_found_wherever_it_is() {
        for byte in 0..=0x7f_u8 {
            let escaped = serde_json::to_vec(&char::from(byte)).unwrap().len() > 3;
            for len in 1..30 {
                for at in 0..len {
                    for other in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f] {
                        let mut bytes = vec![other; len];
                        bytes[at] = byte;
                        assert_eq!(needs_escapes(&bytes), escaped, "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(!needs_escapes("äöüÿ€🦀 \u{a0}\u{85}".repeat(3).as_bytes()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn the_bytes_are_those_of_the_public_types(
            records in prop::collection::vec(records(), 0..12)
        ) {
            let expected: ListBackgroundTasksResponse = records.iter().cloned().collect();
            let expected = serde_json::to_string(&expected).unwrap();
            prop_assert_eq!(String::from_utf8(list(&records)).unwrap(), expected);
            for record in &records {
                let expected = serde_json::to_string(&BackgroundTaskInfo::from(record)).unwrap();
                prop_assert_eq!(String::from_utf8(task(record)).unwrap(), expected);
            }
        }
    }
}
