use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now, in whole microseconds.
///
/// That is what a REST body shows and what a directory on Redis keeps. A record has no finer times anywhere, so that one
/// that was read back is equal to the one that was written.
pub(crate) fn now() -> SystemTime {
    in_micros(SystemTime::now())
}

fn in_micros(time: SystemTime) -> SystemTime {
    // A clock before 1970 is wrong anyway.
    let Ok(since) = time.duration_since(UNIX_EPOCH) else { return time };
    UNIX_EPOCH + Duration::new(since.as_secs(), since.subsec_micros() * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finer_than_a_microsecond_is_cut_off() {
        let second = UNIX_EPOCH + Duration::from_secs(1_795_354_291);
        let time = second + Duration::from_nanos(654_130_999);
        assert_eq!(in_micros(time), second + Duration::from_nanos(654_130_000));
        assert_eq!(in_micros(in_micros(time)), in_micros(time));
        let before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(in_micros(before), before);
    }
}
