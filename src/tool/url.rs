use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a strict reader of URLs certainly accepts `url`.
///
/// AgentScope checks URLs when it reads results, and loses all results that it reads together with one that it refuses. So
/// the answer for a doubtful URL is `false`. It is `true` for an absolute URL with a plain ASCII host, if its scheme has
/// hosts. Parsers accept any text after the authority.
pub(super) fn is_certainly_valid(url: &str) -> bool {
    // Parsers drop tabs and line breaks, which changes the meaning of the rest.
    if url.contains(|c: char| c.is_ascii_control()) {
        return false;
    }
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    {
        return false;
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" | "ws" | "wss" | "ftp" => rest.strip_prefix("//").is_some_and(has_valid_authority),
        "file" => rest.strip_prefix("///").is_some_and(|path| !path.starts_with(['/', '\\'])),
        _ => match rest.strip_prefix("//") {
            Some(rest) => rest.starts_with('/') || has_valid_authority(rest),
            None => true,
        },
    }
}

fn has_valid_authority(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // A backslash ends the authority for some schemes, and is an error for others.
    if authority.contains('\\') {
        return false;
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(host) = host.strip_prefix('[') {
        return host
            .split_once(']')
            .is_some_and(|(ip, port)| ip.parse::<Ipv6Addr>().is_ok() && is_valid_port(port));
    }
    let (host, port) = host.find(':').map_or((host, ""), |colon| host.split_at(colon));
    is_valid_host(host) && is_valid_port(port)
}

fn is_valid_host(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut labels = host.split('.');
    let last = host.rsplit('.').next().unwrap_or(host);
    host.len() <= 253
        && labels.all(|label| {
            !label.is_empty() && label.len() <= 63 && label.chars().all(plain) && !is_punycode(label)
        })
        // A host whose last label is a number is read as an IPv4 address.
        && (!last.starts_with(|c: char| c.is_ascii_digit()) || host.parse::<Ipv4Addr>().is_ok())
}

/// Only a decoder can tell whether such a label is valid.
fn is_punycode(label: &str) -> bool {
    label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
}

fn is_valid_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.chars().all(|c| c.is_ascii_digit()) && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_urls_are_valid() {
        for url in [
            "https://example.com/a.png",
            "http://localhost:8080/x?y#z",
            "HTTPS://user:p%40ss@cdn.example.co.uk/é 1.png",
            "http://10.0.0.1/",
            "http://[::1]:9000/bucket",
            "s3://bucket-1/key",
            "file:///pictures/a.png",
            "data:image/png;base64,AAAA",
            "urn:isbn:1",
        ] {
            assert!(is_certainly_valid(url), "{url}");
        }
    }

    #[test]
    fn doubtful_urls_are_not() {
        for url in [
            "",
            "a.png",
            "/pictures/a.png",
            "//example.com/a",
            "1http://example.com",
            " https://example.com",
            "https:example.com",
            "https://",
            "https:///a",
            "https://@/a",
            "https://exa mple.com/",
            "https://example.com:99999/",
            "https://example.com:8o/",
            "https://1.2.3.999/",
            "https://example.123/",
            "https://xn--a/",
            "https://exämple.com/",
            "https://[::g]/",
            "https://[::1/",
            "https://a%zz/",
            "https://a..b/",
            "file://host^/a",
            "https://a%b\\@example.com",
            "git:/\t/a b",
            "foo://ho st/",
        ] {
            assert!(!is_certainly_valid(url), "{url}");
        }
    }
}
