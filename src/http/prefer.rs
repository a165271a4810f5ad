use std::time::Duration;

use http::HeaderName;

use super::grammar::{elements, pair, parameters};
use super::head::RequestHead;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Lets clients say how long they want to wait, with the `Prefer` header of RFC 7240; a closure for
/// [`DescribeRequest::timeout`](super::DescribeRequest::timeout).
///
/// `Prefer: wait=30` waits 30 seconds before the call is handed over, `max` at the most. `Prefer: respond-async`
/// without a `wait` hands over a call that is not ready at once. Other requests get the timeout of the layer.
///
/// The header is read by its grammar: names in any case, quoted strings, parameters, lists, several headers. The
/// first of several preferences of one name counts. A preference that is not in the grammar, a `wait` that is no count of
/// seconds, and a `respond-async` with a value are ignored.
///
/// ```
/// use std::time::Duration;
/// use tower_offload::http::{DescribeRequest, prefer_wait};
///
/// let describe = DescribeRequest::new().timeout(prefer_wait(Duration::from_secs(60)));
/// ```
pub fn prefer_wait(max: Duration) -> impl Fn(&RequestHead<'_>) -> Option<Duration> + Clone {
    move |head| match preference(head, b"wait").and_then(|wait| seconds(&wait)) {
        Some(wait) => Some(wait.min(max)),
        // It has no value. One with a value is not understood.
        None => preference(head, b"respond-async").filter(Vec::is_empty).map(|_| Duration::ZERO),
    }
}

/// The value of the first preference of this name.
fn preference(head: &RequestHead<'_>, wanted: &[u8]) -> Option<Vec<u8>> {
    let headers = head.headers().get_all(PREFER).iter();
    headers.flat_map(|value| elements(value.as_bytes())).find_map(|preference| {
        let mut parts = parameters(preference);
        let (name, value) = pair(parts.next()?)?;
        // Parameters may be empty; one that is not in the grammar makes all of it a preference that is not understood.
        let is_sound = parts.all(|parameter| parameter.is_empty() || pair(parameter).is_some());
        (is_sound && name.eq_ignore_ascii_case(wanted)).then(|| value.into_owned())
    })
}

fn seconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Only digits: what does not fit is a very long time.
    Some(Duration::from_secs(str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX)))
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
        for (values, seconds) in [
            (&["wait=5"] as &[&str], 5),
            (&["Wait = \"5\" ; x=1"], 5),
            (&["wait=\"\\5\""], 5),
            (&["wait=5;"], 5),
            (&["respond-async, wait=10"], 10),
            (&["respond-async; wait=5"], 0),
            (&["return=minimal", "wait=7, wait=8"], 7),
            (&["respond-async"], 0),
            (&["respond-async=\"\""], 0),
            (&["Respond-Async ;a=\"b, c\""], 0),
            (&["wait=0"], 0),
            (&["foo=\"a, wait=1\", wait=2"], 2),
            (&["foo=\"a\\\", wait=1\", wait=2"], 2),
            (&["foo=\"wait=1, respond-async\"", "wait=2"], 2),
        ] {
            assert_eq!(wait(values), Some(Duration::from_secs(seconds)), "{values:?}");
        }
    }

    #[test]
    fn a_wait_has_an_upper_limit() {
        assert_eq!(wait(&["wait=61"]), Some(Duration::from_secs(60)));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_not_in_the_grammar_is_ignored() {
        for values in [
            &[] as &[&str],
            &["return=minimal"],
            &["wait"],
            &["wait="],
            &["wait=-1"],
            &["wait=+1"],
            &["wait=1.5"],
            &["wait=soon"],
            &["waits=5"],
            &["wait==5"],
            &["wait=\"5"],
            &["wait=5 6"],
            &["foo;wait=5"],
            &["foo=\"respond-async, wait=5\""],
            // The first counts, even where it is not understood.
            &["wait=soon, wait=5"],
            &["respond-async=no"],
            &["respond-async=no, respond-async"],
        ] {
            assert_eq!(wait(values), None, "{values:?}");
        }
        assert_eq!(wait(&["wait=soon, respond-async"]), Some(Duration::ZERO));
        assert_eq!(wait(&["wait==3, wait=5"]), Some(Duration::from_secs(5)));
    }
}
