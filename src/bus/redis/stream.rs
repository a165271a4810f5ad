use redis::Value;

use super::super::{BusError, Entry, EntryId, Result};
use super::answer::decode;
use crate::log_limit::LogLimit;

/// The one field of an entry.
pub(super) const PAYLOAD: &str = "payload";

/// What `XRANGE` answers, without the entries that other programs wrote: those are logged and skipped, so that a
/// reader still gets the rest.
pub(super) struct Range {
    pub(super) entries: Vec<Entry>,
    /// The id of the last entry, also if that was skipped.
    pub(super) last: Option<EntryId>,
    /// How many there were.
    pub(super) len: usize,
}

impl Range {
    pub(super) fn read(operation: &'static str, key: &str, answer: Value) -> Result<Self> {
        let items: Vec<Value> = decode(operation, answer)?;
        let mut range = Self { entries: Vec::with_capacity(items.len()), last: None, len: items.len() };
        for item in items {
            let (id, fields): (String, Vec<Vec<u8>>) = decode(operation, item)?;
            let id = entry_id(operation, &id)?;
            range.last = Some(id);
            match payload(fields) {
                Ok(payload) => range.entries.push(Entry { id, payload }),
                Err(reason) => {
                    static LINES: LogLimit = LogLimit::new();
                    LINES.write(|left_out| {
                        tracing::warn!(key, %id, reason, left_out, "an entry of a stream was skipped");
                    });
                }
            }
        }
        Ok(range)
    }
}

fn payload(fields: Vec<Vec<u8>>) -> std::result::Result<String, &'static str> {
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        if field == PAYLOAD.as_bytes() {
            return String::from_utf8(value).map_err(|_| "its payload is not UTF-8");
        }
    }
    Err("it has no payload")
}

pub(super) fn entry_id(operation: &'static str, text: &str) -> Result<EntryId> {
    let id = text.split_once('-').and_then(|(millis, sequence)| {
        Some(EntryId { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
    });
    id.ok_or_else(|| BusError::new(operation, format!("{text:?} is not the id of an entry")))
}

/// A number of entries as commands take it.
pub(super) fn count(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// Lua: `forget(key)` removes a stream that has no entries, so that the keys of sessions that are over do not pile up.
///
/// Not in the millisecond of its last entry, and not while the clock is behind that: ids would begin anew there, and
/// grow no longer.
macro_rules! forget {
    () => {
        "local function forget(key) \
           if redis.call('EXISTS', key) == 0 or redis.call('XLEN', key) > 0 then return end \
           local info, last = redis.call('XINFO', 'STREAM', key), nil \
           for at = 1, #info, 2 do if info[at] == 'last-generated-id' then last = info[at + 1] end end \
           local time = redis.call('TIME') \
           if tonumber(string.match(last, '^%d+')) < time[1] * 1000 + math.floor(time[2] / 1000) then \
             redis.call('DEL', key) \
           end \
         end\n"
    };
}

pub(super) use forget;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_two_numbers() {
        let id = EntryId { millis: u64::MAX, sequence: 0 };
        assert_eq!(entry_id("read", &id.to_string()).unwrap(), id);
        for text in ["", "1", "-", "1-", "-1", "1-2-3", "a-1", "18446744073709551616-0"] {
            assert!(entry_id("read", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_payload_is_found_among_other_fields() {
        let fields = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        assert_eq!(payload(fields(&["a", "payload", "payload", "x"])).unwrap(), "x");
        assert!(payload(fields(&["a", "payload"])).is_err());
        assert!(payload(fields(&[])).is_err());
        assert!(payload(vec![b"payload".to_vec(), vec![0xff]]).is_err());
    }
}
