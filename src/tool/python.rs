//! Texts as Python writes them, where a Python peer reads or compares them.

use std::io;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::Formatter;

/// JSON in Python's default form: a space after `,` and `:`, and nothing escaped that need not be. The escapes of
/// `serde_json` are the same already.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut json = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced))?;
    String::from_utf8(json).map_err(serde_json::Error::custom)
}

struct Spaced;

impl Spaced {
    fn separate<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The seconds of a duration as `repr(float)` writes them: `10.0`, `0.2`, `1e-05`.
pub(super) fn seconds(duration: Duration) -> String {
    // By way of the decimal digits, because adding up seconds and nanoseconds as floats rounds twice.
    let decimal = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    let seconds: f64 = decimal.parse().unwrap_or(duration.as_secs_f64());
    // Both languages write the shortest digits that read back as the same number, and change to an exponent at the
    // same sizes. Python signs the exponent and gives it two digits.
    let text = format!("{seconds:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// Now, as a naive local time.
pub(super) fn local_now() -> String {
    naive(jiff::Zoned::now().datetime())
}

/// `datetime.isoformat()`: six decimals, or none if they are all zero.
fn naive(time: DateTime) -> String {
    if time.subsec_nanosecond() < 1000 { format!("{time:.0}") } else { format!("{time:.6}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_are_what_python_prints() {
        for (nanos, text) in [
            (10_000_000_000, "10.0"),
            (200_000_000, "0.2"),
            (30_000_000_000, "30.0"),
            (1_500_000_000, "1.5"),
            (0, "0.0"),
            (100_000, "0.0001"),
            (10_000, "1e-05"),
            (15_000, "1.5e-05"),
            (1, "1e-09"),
            (123_456_789, "0.123456789"),
            (16_400_000_000, "16.4"),
            (3_600_000_000_001, "3600.000000001"),
        ] {
            assert_eq!(seconds(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(seconds(Duration::from_secs(1_000_000_000_000_000)), "1000000000000000.0");
        assert_eq!(seconds(Duration::from_secs(10_000_000_000_000_000)), "1e+16");
        assert_eq!(seconds(Duration::MAX), "1.8446744073709552e+19");
    }

    #[test]
    fn json_is_spaced_and_escaped_as_python_does() {
        let json = to_json(&json!({"a": [1, "x", null], "b": {}})).unwrap();
        assert_eq!(json, r#"{"a": [1, "x", null], "b": {}}"#);
        assert_eq!(to_json(&json!([])).unwrap(), "[]");
        let odd = "\"\\/\n\r\t\u{8}\u{c}\0\u{1b}\u{1f}\u{7f}\u{2028}é😀";
        assert_eq!(
            to_json(&odd).unwrap(),
            "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001b\\u001f\u{7f}\u{2028}é😀\""
        );
    }

    #[test]
    fn times_drop_a_fraction_of_zero_microseconds() {
        let time = |nanos| naive(DateTime::new(2026, 11, 22, 13, 31, 32, nanos).unwrap());
        assert_eq!(time(794_120_000), "2026-11-22T13:31:32.794120");
        assert_eq!(time(794_120_999), "2026-11-22T13:31:32.794120");
        assert_eq!(time(1_000), "2026-11-22T13:31:32.000001");
        assert_eq!(time(999), "2026-11-22T13:31:32");
        assert_eq!(time(0), "2026-11-22T13:31:32");
    }
}
