//! Who a call belongs to.

use axum::body::Body;
use http::Request;
use tower::ServiceExt;
use tower_offload::TaskManager;
use tower_offload::http::{Caller, DescribeRequest, HttpOffloadLayer, Identity, RequestHead};
use tower_offload::task::TaskMeta;

use crate::support::{SLOW, body, layer, post, request, slow, tasks};

/// Served in the foreground, and no task of anybody's is left.
async fn is_not_handed_over(layer: HttpOffloadLayer, manager: &TaskManager, request: Request<Body>) {
    let what = format!("{request:?}");
    let response = slow(layer, request).await;
    assert_eq!(response.status(), 200, "{what}");
    assert_eq!(body(response).await, b"the report");
    let stats = manager.stats();
    assert_eq!((stats.admitted, stats.refused), (0, 0), "{what}");
}

/// What is kept of a call that is handed over.
async fn meta(describe: DescribeRequest, request: Request<Body>, user: &str) -> TaskMeta {
    let manager = TaskManager::new();
    assert_eq!(slow(layer(&manager).describe(describe), request).await.status(), 202);
    let [task] = &tasks(&manager, user).await[..] else { panic!("not one task") };
    task.meta.clone()
}

#[tokio::test(start_paused = true)]
async fn without_one_good_user_a_call_is_served_in_the_foreground() {
    let manager = TaskManager::new();
    let long = [b'a'; 10_000];
    let cases: &[&[(&str, &[u8])]] = &[
        &[],
        &[("x-user-id", b"")],
        &[("x-user-id", b" \t")],
        &[("x-user-id", b"alice"), ("x-user-id", b"bob")],
        &[("x-user-id", b"alice"), ("x-user-id", b"alice")],
        &[("x-user-id", b""), ("x-user-id", b"alice")],
        &[("x-user-id", b"\xff\xfe")],
        &[("x-user-id", &long[..257])],
        &[("x-user-id", &long)],
        &[("x-session-id", b"s1"), ("x-agent-id", b"agent")],
    ];
    for headers in cases {
        is_not_handed_over(layer(&manager), &manager, request("POST", "/", headers)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_may_have_any_text_of_256_bytes() {
    for user in ["a".repeat(256), "Zoë".to_owned(), "a, b".to_owned()] {
        let request = request("POST", "/", &[("x-user-id", user.as_bytes())]);
        assert_eq!(meta(DescribeRequest::new(), request, &user).await.user_id(), user);
    }
}

#[tokio::test(start_paused = true)]
async fn white_space_around_a_user_is_no_part_of_the_name() {
    let request = request("POST", "/", &[("x-user-id", b" \talice\t ")]);
    assert_eq!(meta(DescribeRequest::new(), request, "alice").await.user_id(), "alice");
}

#[tokio::test(start_paused = true)]
async fn other_headers_that_cannot_be_used_count_as_none() {
    let long = [b'a'; 257];
    for name in ["x-session-id", "x-agent-id", "x-request-id"] {
        for values in [&[&b""[..]][..], &[b"a", b"b"], &[b"\xff"], &[&long]] {
            let mut request = post();
            for value in values {
                request.headers_mut().append(name, value.to_vec().try_into().unwrap());
            }
            let meta = meta(DescribeRequest::new(), request, "alice").await;
            let kept = (meta.session_id(), meta.agent_id(), meta.call_id());
            assert_eq!(kept, ("", "", None), "{name}: {values:?}");
        }
    }
}

fn with_caller(caller: Caller) -> Request<Body> {
    let headers: &[(&str, &[u8])] = &[
        ("x-user-id", b"mallory"),
        ("x-session-id", b"header session"),
        ("x-agent-id", b"header agent"),
        ("x-request-id", b"call_1"),
    ];
    let mut request = request("POST", "/", headers);
    request.extensions_mut().insert(caller);
    request
}

#[tokio::test(start_paused = true)]
async fn an_extension_wins_over_headers_field_by_field() {
    let caller = Caller::new("alice").with_session("s1").with_agent("agent");
    let kept = meta(DescribeRequest::new(), with_caller(caller), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id(), kept.call_id()), ("s1", "agent", Some("call_1")));

    let kept = meta(DescribeRequest::new(), with_caller(Caller::new("alice")), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id()), ("header session", "header agent"));

    let unset = Caller::new("alice").with_session("").with_agent("a".repeat(257));
    let kept = meta(DescribeRequest::new(), with_caller(unset), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id()), ("", ""), "set to nothing is set");
}

#[tokio::test(start_paused = true)]
async fn an_extension_without_a_user_is_nobody_whatever_the_header_says() {
    let manager = TaskManager::new();
    for user in [String::new(), "a".repeat(257)] {
        is_not_handed_over(layer(&manager), &manager, with_caller(Caller::new(user))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn headers_can_be_left_out() {
    let manager = TaskManager::new();
    let describe = DescribeRequest::new().identity(Identity::extension_only());
    is_not_handed_over(layer(&manager).describe(describe.clone()), &manager, post()).await;

    let kept = meta(describe, with_caller(Caller::new("alice")), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id(), kept.call_id()), ("", "", Some("call_1")));
}

#[tokio::test(start_paused = true)]
async fn a_custom_identity_decides_alone() {
    let custom = |identity: Identity| DescribeRequest::new().identity(identity);
    // Neither a client's header nor an extension puts the task into another session.
    let describe = custom(Identity::custom(|_: &RequestHead<'_>| Ok("alice")));
    let request = || with_caller(Caller::new("mallory").with_session("bob's").with_agent("bob's"));
    let kept = meta(describe, request(), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id(), kept.call_id()), ("", "", Some("call_1")));

    // Its own answer does.
    let caller = || Caller::new("alice").with_session("s1").with_agent("agent");
    let describe = custom(Identity::custom(move |_: &RequestHead<'_>| Ok(caller())));
    let kept = meta(describe, request(), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id()), ("s1", "agent"));

    let unset = || Caller::new("alice").with_session("").with_agent("a".repeat(257));
    let describe = custom(Identity::custom(move |_: &RequestHead<'_>| Ok(unset())));
    let kept = meta(describe, request(), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id()), ("", ""));
}

#[tokio::test(start_paused = true)]
async fn an_identity_around_another_one_keeps_what_that_one_says_of_the_caller() {
    let inner = Identity::extension_only();
    let around = Identity::custom(move |head: &RequestHead<'_>| inner.caller(head));
    let around = Identity::custom(move |head: &RequestHead<'_>| around.caller(head));
    let describe = DescribeRequest::new().identity(around);
    let caller = Caller::new("alice").with_session("s1").with_agent("agent");
    let kept = meta(describe.clone(), with_caller(caller), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id()), ("s1", "agent"));

    let manager = TaskManager::new();
    is_not_handed_over(layer(&manager).describe(describe.clone()), &manager, post()).await;
    let nobody = with_caller(Caller::new("").with_session("s1"));
    is_not_handed_over(layer(&manager).describe(describe), &manager, nobody).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_whole_name_of_a_header_counts() {
    let manager = TaskManager::new();
    // As long, and with the same letters in places.
    let others: &[(&str, &[u8])] =
        &[("x-user-ip", b"mallory"), ("x-uzer-id", b"mallory"), ("y-user-id", b"mallory")];
    is_not_handed_over(layer(&manager), &manager, request("POST", "/", others)).await;

    let both = [others, &[("x-user-id", b"alice"), ("x-seat-count", b"4"), ("x-rest-every", b"5")]].concat();
    let kept = meta(DescribeRequest::new(), request("POST", "/", &both), "alice").await;
    assert_eq!((kept.session_id(), kept.call_id()), ("", None));
}

#[tokio::test(start_paused = true)]
async fn headers_have_any_name_even_the_same() {
    let describe = || {
        let name = |name| http::HeaderName::from_bytes(name).unwrap();
        DescribeRequest::new()
            .identity(Identity::header(name(b"U")))
            .session_header(name(b"id"))
            .agent_header(http::header::USER_AGENT)
            .call_id_header(name(b"id"))
    };
    let headers: &[(&str, &[u8])] = &[
        ("u", b"alice"),
        ("ID", b"1"),
        ("user-agent", b"curl"),
        ("x-user-id", b"eve"),
        ("x-session-id", b"2"),
    ];
    let kept = meta(describe(), request("POST", "/", headers), "alice").await;
    assert_eq!((kept.session_id(), kept.agent_id(), kept.call_id()), ("1", "curl", Some("1")));

    let long = [headers, &[("id", b"1")]].concat();
    let kept = meta(describe(), request("POST", "/", &long), "alice").await;
    assert_eq!((kept.session_id(), kept.call_id()), ("", None));
}

#[tokio::test(start_paused = true)]
async fn texts_of_any_length_are_kept_as_they_are() {
    // On both sides of what is kept without an allocation, with each text the one that does not fit.
    for len in [1, 23, 24, 25, 60, 110, 111, 112, 113, 127, 128, 129, 256] {
        for long in 0..4 {
            let text = |index| {
                if index == long { "é".repeat(len / 2) + &"x".repeat(len % 2) } else { format!("t{index}") }
            };
            let [user, session, agent, call] = [0, 1, 2, 3].map(text);
            let headers: &[(&str, &[u8])] = &[
                ("x-user-id", user.as_bytes()),
                ("x-session-id", session.as_bytes()),
                ("x-agent-id", agent.as_bytes()),
                ("x-request-id", call.as_bytes()),
            ];
            let kept = meta(DescribeRequest::new(), request("POST", "/reports/17", headers), &user).await;
            let expected = TaskMeta::new(user, "POST").with_session(session).with_agent(agent);
            assert_eq!(kept, expected.with_call_id(call).with_summary("POST /reports/17"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_kept_as_it_came_whatever_is_done_to_it() {
    let manager = TaskManager::new();
    let spoil = axum::middleware::map_request(async |mut request: Request<Body>| {
        *request.uri_mut() = "/elsewhere".parse().unwrap();
        request.headers_mut().insert("x-user-id", http::HeaderValue::from_static("mallory"));
        request
    });
    let handler = async || tokio::time::sleep(SLOW).await;
    let app = axum::Router::new().fallback(handler).layer(spoil).layer(layer(&manager));
    assert_eq!(app.oneshot(post()).await.unwrap().status(), 202);
    let [task] = &tasks(&manager, "alice").await[..] else { panic!("not one task") };
    assert_eq!(task.meta.summary(), "POST /reports/17");
}
