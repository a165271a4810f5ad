//! Times as digits, for lists that are full of them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::task::rfc3339;

const DAY: u32 = 24 * 60 * 60;

/// The two digits of each number below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// Writes times as [`rfc3339`] does, in quotes.
///
/// Most times of a list are of one day or two, so that the date, which is the dear part, is kept from one to the next.
pub(super) struct Times {
    day: u32,
    text: [u8; 29],
}

impl Times {
    pub(super) const fn new() -> Self {
        Self { day: 0, text: *b"\"1970-01-01T00:00:00.000000Z\"" }
    }

    pub(super) fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Before 1970, or after 2106: years that have another form, or none, are among those.
        let Some(seconds) = u32::try_from(since.as_secs()).ok().filter(|seconds| *seconds >= DAY) else {
            out.push(b'"');
            out.extend_from_slice(rfc3339(time).as_bytes());
            out.push(b'"');
            return;
        };
        let (day, second, micros) = (seconds / DAY, seconds % DAY, since.subsec_micros());
        if day != self.day {
            self.day = day;
            self.text[1..11].copy_from_slice(&rfc3339(time).as_bytes()[..10]);
        }
        let mut put = |at: usize, number: u32| {
            self.text[at..at + 2].copy_from_slice(&PAIRS[number as usize % 100]);
        };
        put(12, second / 3600);
        put(15, second / 60 % 60);
        put(18, second % 60);
        put(21, micros / 10_000);
        put(23, micros / 100 % 100);
        put(25, micros % 100);
        out.extend_from_slice(&self.text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn written(times: &mut Times, time: SystemTime) -> String {
        let mut out = Vec::new();
        times.write(&mut out, time);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_ends_of_what_is_written_in_the_fast_way_are_right() {
        let mut times = Times::new();
        let day = u64::from(DAY);
        for seconds in [0, 1, day - 1, day, day + 1, 2 * day - 1, u64::from(u32::MAX), 1 << 32, 1 << 50] {
            for nanos in [0, 1, 999, 1000, 999_999_999] {
                for time in
                    [UNIX_EPOCH + Duration::new(seconds, nanos), UNIX_EPOCH - Duration::new(seconds, nanos)]
                {
                    assert_eq!(written(&mut times, time), format!("\"{}\"", rfc3339(time)));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn times_in_any_order_are_as_ever(offsets in prop::collection::vec(-400_000_000_000..400_000_000_000_i64, 0..20)) {
            let mut times = Times::new();
            for offset in offsets {
                let time = UNIX_EPOCH + Duration::from_micros((1_795_354_291_654_130 + offset) as u64);
                prop_assert_eq!(written(&mut times, time), format!("\"{}\"", rfc3339(time)));
            }
        }
    }
}
