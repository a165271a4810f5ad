//! Which calls may be handed over.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, Version};
use tower_offload::TaskManager;
use tower_offload::http::{DescribeRequest, Rule};

use crate::support::{layer, post, request, slow};

async fn status_by(describe: DescribeRequest, method: &str, headers: &[(&str, &[u8])]) -> u16 {
    let manager = TaskManager::new();
    let mut request = request(method, "/", headers);
    request.headers_mut().insert("x-user-id", "alice".parse().unwrap());
    let status = slow(layer(&manager).describe(describe), request).await.status().as_u16();
    let stats = manager.stats();
    assert_eq!((stats.admitted, stats.refused), (u64::from(status == 202), 0), "{method} {headers:?}");
    status
}

async fn status(method: &str, headers: &[(&str, &[u8])]) -> u16 {
    status_by(DescribeRequest::new(), method, headers).await
}

#[tokio::test(start_paused = true)]
async fn every_method_but_head_may_be_handed_over() {
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        assert_eq!(status(method, &[]).await, 202, "{method}");
    }
    assert_eq!(status("HEAD", &[]).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_a_connection_keeps_waiting() {
    assert_eq!(status("GET", &[("connection", b"Upgrade"), ("upgrade", b"websocket")]).await, 200);
    assert_eq!(status("POST", &[("connection", b"Upgrade"), ("upgrade", b"tcp")]).await, 200);
    assert_eq!(status("GET", &[("upgrade", b"h2c"), ("upgrade", b"websocket")]).await, 200);
    assert_eq!(status("GET", &[("upgrade", b"h2c, websocket")]).await, 200);
    let offer: &[(&str, &[u8])] = &[("connection", b"Upgrade, HTTP2-Settings"), ("upgrade", b"H2C")];
    assert_eq!(status("POST", offer).await, 202, "an offer of h2c goes with any request");
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_never_handed_over() {
    let manager = TaskManager::new();
    let request =
        Request::builder().method(Method::CONNECT).uri("example.org:443").header("x-user-id", "alice");
    let response = slow(layer(&manager), request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_only_events_keeps_waiting() {
    // With a GET, and with a POST.
    for (accept, get, post) in [
        (&["text/event-stream"] as &[&str], 200, 200),
        (&["Text/Event-Stream"], 200, 200),
        (&["text/event-stream; charset=utf-8"], 200, 200),
        (&["text/event-stream;q=0.5"], 200, 200),
        (&[" text/event-stream ,"], 200, 200),
        (&["text/event-stream", "text/event-stream;q=0.1"], 200, 200),
        (&["text/event-stream, text/html"], 200, 200),
        (&["text/event-stream, application/json;q=0"], 200, 200),
        (&["text/event-stream, */*, application/json;q=0.000"], 200, 200),
        (&["text/event-stream;v=\"a, application/json\""], 200, 200),
        // Either is the answer to a message of MCP.
        (&["application/json, text/event-stream"], 202, 200),
        (&["application/json", "text/event-stream"], 202, 200),
        (&["text/event-stream, */*;q=0.1"], 202, 200),
        (&["text/event-stream;q=0, application/json"], 202, 202),
        (&["text/event-stream;q=0"], 202, 202),
        (&["*/*"], 202, 202),
        (&["text/html"], 202, 202),
        (&["text/event-streams"], 202, 202),
        (&[""], 202, 202),
        (&["a;b=\"text/event-stream, text/event-stream"], 202, 202),
    ] {
        let headers: Vec<_> = accept.iter().map(|value| ("accept", value.as_bytes())).collect();
        assert_eq!(status("GET", &headers).await, get, "GET {accept:?}");
        assert_eq!(status("POST", &headers).await, post, "POST {accept:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_grpc_keeps_waiting() {
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "Application/GRPC; charset=utf-8",
        "application/grpc-web",
        "application/grpc-web-text+proto",
    ] {
        assert_eq!(status("POST", &[("content-type", content_type.as_bytes())]).await, 200, "{content_type}");
    }
    for content_type in ["application/json", "application/grp", "text/application/grpc", ""] {
        assert_eq!(status("POST", &[("content-type", content_type.as_bytes())]).await, 202, "{content_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_still_be_sending_keeps_waiting() {
    assert_eq!(status("POST", &[("content-length", b"5")]).await, 200);
    assert_eq!(status("GET", &[("content-length", b"5")]).await, 200);
    assert_eq!(status("POST", &[("transfer-encoding", b"chunked")]).await, 200);
    assert_eq!(status("POST", &[("transfer-encoding", b"chunked"), ("content-length", b"0")]).await, 200);
    assert_eq!(status("POST", &[("content-length", b"0")]).await, 202);
    assert_eq!(status("POST", &[]).await, 202);

    // HTTP/2 needs neither header.
    for (method, length, expected) in [
        ("POST", None, 200),
        ("QUERY", None, 200),
        ("POST", Some("0"), 202),
        ("PUT", Some("7"), 200),
        ("GET", None, 202),
        ("DELETE", None, 202),
    ] {
        let manager = TaskManager::new();
        let mut request = request(method, "/", &[("x-user-id", b"alice")]);
        *request.version_mut() = Version::HTTP_2;
        if let Some(length) = length {
            request.headers_mut().insert("content-length", HeaderValue::from_static(length));
        }
        assert_eq!(slow(layer(&manager), request).await.status(), expected, "{method} {length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_can_replace_each_rule() {
    let cases: [(Rule, &str, &str, &str); 5] = [
        (Rule::Connection, "GET", "upgrade", "websocket"),
        (Rule::Head, "HEAD", "x-nothing", ""),
        (Rule::EventStream, "GET", "accept", "text/event-stream"),
        (Rule::Grpc, "POST", "content-type", "application/grpc"),
        (Rule::Body, "POST", "content-length", "5"),
    ];
    assert_eq!(cases.map(|(rule, ..)| rule), Rule::ALL);
    for (rule, method, name, value) in cases {
        let headers: &[(&str, &[u8])] = &[(name, value.as_bytes())];
        assert_eq!(status(method, headers).await, 200, "{rule:?}");
        let replaced = DescribeRequest::new().rule(rule, |_| false);
        assert_eq!(status_by(replaced, method, headers).await, 202, "{rule:?}");
        let others = Rule::ALL.iter().copied().filter(|other| *other != rule);
        let others = others.fold(DescribeRequest::new(), |describe, other| describe.rule(other, |_| false));
        assert_eq!(status_by(others, method, headers).await, 200, "{rule:?}");
        let more = move |head: &tower_offload::http::RequestHead<'_>| {
            rule.applies(head) || head.headers().contains_key("x-more")
        };
        let more = DescribeRequest::new().rule(rule, more);
        assert_eq!(status_by(more.clone(), "GET", &[("x-more", b"")]).await, 200, "{rule:?}");
        assert_eq!(status_by(more, "GET", &[]).await, 202, "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_says_which_calls_may() {
    let manager = TaskManager::new();
    let layer = layer(&manager).describe(DescribeRequest::new().only(|head| head.uri().path() == "/reports"));
    let headers: &[(&str, &[u8])] = &[("x-user-id", b"alice")];
    assert_eq!(slow(layer.clone(), request("POST", "/chat", headers)).await.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
    assert_eq!(slow(layer, request("POST", "/reports", headers)).await.status(), 202);
}

/// Whatever bytes headers have, a call is served.
#[tokio::test(start_paused = true)]
async fn headers_of_any_bytes_hurt_no_call() {
    let names = ["accept", "content-type", "upgrade", "content-length", "transfer-encoding", "prefer"];
    let values: [&[u8]; 8] =
        [b"\xff\xfe", b"\"", b"\\", b";;;,,,", b"text/event-stream;\xff", b"a=\"\\", b"\t", &[b','; 5000]];
    for name in names {
        for value in values {
            let mut request = post();
            let name = HeaderName::from_static(name);
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
            let describe = DescribeRequest::new()
                .timeout(tower_offload::http::prefer_wait(std::time::Duration::from_secs(60)));
            let status = slow(layer(&TaskManager::new()).describe(describe), request).await.status();
            assert!([200, 202].contains(&status.as_u16()));
        }
    }
}
