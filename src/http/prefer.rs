use std::time::Duration;

use http::HeaderName;

use super::head::RequestHead;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Lets clients say how long they want to wait, with the `Prefer` header of RFC 7240; a closure for
/// [`DescribeRequest::timeout`](super::DescribeRequest::timeout).
///
/// `Prefer: wait=30` waits 30 seconds before the call is handed over, `max` at the most. `Prefer: respond-async`
/// without a `wait` hands over at once what is not ready at once. Other requests get the timeout of the layer.
///
/// ```
/// use std::time::Duration;
/// use tower_offload::http::{DescribeRequest, prefer_wait};
///
/// let describe = DescribeRequest::new().timeout(prefer_wait(Duration::from_secs(60)));
/// ```
pub fn prefer_wait(max: Duration) -> impl Fn(&RequestHead<'_>) -> Option<Duration> + Clone {
    move |head| {
        let preferences = || {
            head.headers().get_all(PREFER).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','))
        };
        // The first one counts, as the RFC has it.
        let wait = preferences().find_map(|preference| {
            let (name, value) = preference.split_once('=')?;
            name.trim().eq_ignore_ascii_case("wait").then(|| seconds(value))
        });
        match wait {
            Some(Some(wait)) => Some(wait.min(max)),
            // A wait that cannot be read is ignored, as every preference that is not understood.
            _ => preferences()
                .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
                .then_some(Duration::ZERO),
        }
    }
}

/// A count of seconds, perhaps in quotes, perhaps with parameters behind it.
fn seconds(value: &str) -> Option<Duration> {
    let value = value.split(';').next()?.trim().trim_matches('"');
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Only digits: what does not fit is a very long time.
    Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn wait(values: &[&str]) -> Option<Duration> {
        let mut request = Request::new(());
        for value in values {
            request.headers_mut().append(PREFER, value.parse().unwrap());
        }
        prefer_wait(Duration::from_secs(60))(&RequestHead::from(&request))
    }

    #[test]
    fn the_client_says_how_long_it_waits() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&["return=minimal"]), None);
        assert_eq!(wait(&["wait=5"]), Some(Duration::from_secs(5)));
        assert_eq!(wait(&["Wait = \"5\" ; x=1"]), Some(Duration::from_secs(5)));
        assert_eq!(wait(&["respond-async, wait=10"]), Some(Duration::from_secs(10)));
        assert_eq!(wait(&["return=minimal", "wait=7, wait=8"]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&["respond-async"]), Some(Duration::ZERO));
        assert_eq!(wait(&["wait=0"]), Some(Duration::ZERO));
    }

    #[test]
    fn a_wait_has_an_upper_limit() {
        assert_eq!(wait(&["wait=61"]), Some(Duration::from_secs(60)));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_not_a_count_is_ignored() {
        for value in ["wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "wait=soon", "waits=5"] {
            assert_eq!(wait(&[value]), None, "{value}");
        }
        assert_eq!(wait(&["wait=soon, respond-async"]), Some(Duration::ZERO));
    }
}
