//! Numbers and times as Python writes them, for texts that a Python process reads or compares.

use std::time::Duration;

use jiff::civil::DateTime;

/// The seconds of a duration as `repr(float)` writes them: `10.0`, `0.2`, `1e-05`.
pub(super) fn seconds(duration: Duration) -> String {
    // By way of the decimal digits, because adding seconds and nanoseconds as floats would round twice.
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

/// The current local time without an offset.
pub(super) fn local_now() -> String {
    naive(jiff::Zoned::now().datetime())
}

/// `datetime.isoformat()`: six decimals, or none if they are all zero.
fn naive(time: DateTime) -> String {
    if time.subsec_nanosecond() < 1000 { format!("{time:.0}") } else { format!("{time:.6}") }
}

#[cfg(test)]
mod tests {
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
    fn times_drop_a_fraction_of_zero_microseconds() {
        let time = |nanos| naive(DateTime::new(2026, 11, 22, 13, 31, 32, nanos).unwrap());
        assert_eq!(time(794_120_000), "2026-11-22T13:31:32.794120");
        assert_eq!(time(794_120_999), "2026-11-22T13:31:32.794120");
        assert_eq!(time(1_000), "2026-11-22T13:31:32.000001");
        assert_eq!(time(999), "2026-11-22T13:31:32");
        assert_eq!(time(0), "2026-11-22T13:31:32");
    }
}
