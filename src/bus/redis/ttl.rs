use std::borrow::Cow;
use std::time::Duration;

/// The longest time to live that is handed to a server, some hundred million years: the server adds it to its clock,
/// and refuses what does not fit then.
const LONGEST: u128 = (i64::MAX / 2) as u128;

/// A time to live as the scripts take it: milliseconds, or [`ALWAYS`].
pub(super) fn argument(ttl: Duration) -> Cow<'static, str> {
    millis(ttl).map_or(Cow::Borrowed(ALWAYS), |millis| Cow::Owned(millis.to_string()))
}

pub(super) const ALWAYS: &str = "always";

/// The milliseconds of a time to live, rounded up, so that only zero is zero; `None` means for good.
pub(super) fn millis(ttl: Duration) -> Option<u64> {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    if millis > LONGEST { None } else { u64::try_from(millis).ok() }
}

/// Lua: `live(key, ttl)` makes a key live for what [`argument`] wrote. With zero it is gone.
macro_rules! live {
    () => {
        "local function live(key, ttl) \
           if ttl == 'always' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ttl) end \
         end\n"
    };
}

pub(super) use live;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_milliseconds_and_never_shorter_than_asked() {
        assert_eq!(argument(Duration::ZERO), "0");
        assert_eq!(argument(Duration::from_nanos(1)), "1");
        assert_eq!(argument(Duration::from_millis(1_500)), "1500");
        assert_eq!(argument(Duration::from_micros(1_500_001)), "1501");
        assert_eq!(argument(Duration::MAX), ALWAYS);
        assert_eq!(argument(Duration::from_secs(u64::MAX / 1_000)), ALWAYS);
        assert_eq!(argument(Duration::from_secs(1 << 40)), "1099511627776000");
    }
}
