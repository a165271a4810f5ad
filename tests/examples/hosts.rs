//! Which names the service answers to. A browser lets a page that has rebound its name talk to the loopback address.

use crate::client::Request;
use crate::program::Program;

/// A request for the health of the service, with these lines as they are.
fn health(version: &str, headers: &[(&str, &str)]) -> Request {
    let request = Request::bare("GET", "/health", version);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_runs_no_command_and_reads_nothing() {
    let service = Program::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let command = serde_json::json!({"command": format!("touch {}", ran.display())}).to_string();
    let name = format!("evil.example:{}", service.address.rsplit(':').next().unwrap());
    let routes = [
        ("POST", "/sessions/s1/tools/Bash"),
        ("POST", "/sessions/s1/inbox/drain"),
        ("DELETE", "/sessions/s1"),
        ("PUT", "/sessions/s1"),
        ("GET", "/health"),
        ("GET", "/background-tasks"),
        ("GET", "/background-tasks/x"),
        ("GET", "/swagger-ui"),
        ("GET", "/swagger-ui/"),
        ("GET", "/swagger-ui/index.html"),
        ("GET", "/api-docs/openapi.json"),
        ("OPTIONS", "/background-tasks"),
        ("GET", "/nothing"),
    ];
    for (method, path) in routes {
        let request = || Request::bare(method, path, "1.1").header("X-User-ID", "alice").body(&command);
        let answer = service.send(request().header("Host", &name)).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (421, "application/problem+json"),
            "{path}"
        );
        assert!(!answer.text().contains("evil"), "{}", answer.text());
        // The page of another server, without a rebound name.
        let foreign = request().header("Host", &service.address).header("Origin", "http://evil.example");
        let answer = service.send(foreign).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (403, "application/problem+json"),
            "{path}"
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_host_is_known_in_any_spelling() {
    let service = Program::start(&[]).await;
    let loopback = [
        "localhost",
        "LocalHost:8000",
        "localhost.",
        "localhost.:1",
        "localhost:",
        "127.0.0.1",
        "127.0.0.1.:80",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
    ];
    for host in loopback {
        assert_eq!(service.send(health("1.1", &[("Host", host)])).await.status, 200, "{host}");
        assert_eq!(service.send(health("1.0", &[("hOST", host)])).await.status, 200, "{host}");
    }
    let others = [
        "",
        ".",
        ":8000",
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "localhost..",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost:80@evil.example",
        "localhost:x",
        "localhost, evil.example",
        "localhost evil.example",
        "localhost/",
        "http://localhost",
        "0.0.0.0",
        "[::]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "[127.0.0.1]",
        "192.168.0.1",
        "[::ffff:192.168.0.1]",
        "lo\u{e7}alhost",
    ];
    for host in others {
        for version in ["1.1", "1.0"] {
            let answer = service.send(health(version, &[("Host", host)])).await;
            assert!([400, 421].contains(&answer.status), "{host}: {}", answer.status);
        }
    }
    for version in ["1.1", "1.0"] {
        assert_eq!(service.send(health(version, &[])).await.status, 421, "no host");
        let twice = service.send(health(version, &[("Host", "localhost"), ("Host", "localhost")])).await;
        assert_eq!(twice.status, 400);
        for pair in [["localhost", "evil.example"], ["evil.example", "localhost"]] {
            let answer = service.send(health(version, &pair.map(|host| ("Host", host)))).await;
            assert_eq!(answer.status, 421, "{pair:?}");
        }
    }
}

#[tokio::test]
async fn a_target_that_is_a_whole_url_names_the_host_too() {
    let service = Program::start(&[]).await;
    let send = async |target: &str, host: Option<&str>| {
        let request = Request::bare("GET", target, "1.1");
        let request = host.iter().fold(request, |request, host| request.header("Host", host));
        service.send(request).await.status
    };
    assert_eq!(send("http://localhost/health", Some("localhost")).await, 200);
    assert_eq!(send("http://LOCALHOST.:8000/health", None).await, 200);
    assert_eq!(send("http://evil.example/health", Some("localhost")).await, 421);
    assert_eq!(send("http://localhost/health", Some("evil.example")).await, 421);
    assert_eq!(send("http://evil.example/health", None).await, 421);
    assert_eq!(send("http://localhost@evil.example/health", Some("localhost")).await, 421);
}

#[tokio::test]
async fn only_pages_of_the_machine_itself_are_answered() {
    let service = Program::start(&[]).await;
    let send = async |origins: &[&str]| {
        let mut headers = vec![("Host", "localhost")];
        headers.extend(origins.iter().map(|origin| ("Origin", *origin)));
        service.send(health("1.1", &headers)).await.status
    };
    for origin in ["http://localhost", "HTTPS://LocalHost:3000", "http://127.0.0.1:8000", "http://[::1]:8000"]
    {
        assert_eq!(send(&[origin]).await, 200, "{origin}");
        assert_eq!(send(&[origin, "http://evil.example"]).await, 403, "{origin}");
    }
    let others = [
        "",
        "null",
        "localhost",
        "//localhost",
        "http://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:80@localhost",
        "http://localhost http://evil.example",
        "http://localhost, http://evil.example",
        "http://localhost/",
        "chrome-extension://localhost",
        "file://",
        "http://192.168.0.1",
    ];
    for origin in others {
        assert_eq!(send(&[origin]).await, 403, "{origin}");
    }
}

#[tokio::test]
async fn hosts_can_be_allowed() {
    let args = ["--allow-host", "Agent.Example.", "--allow-host", "fd00::1", "--allow-host", "192.0.2.7"];
    let service = Program::start(&args).await;
    for host in ["agent.example", "AGENT.example.:8000", "[fd00:0::1]:8000", "192.0.2.7", "localhost"] {
        let origin = format!("https://{host}");
        let answer = service.send(health("1.1", &[("Host", host), ("Origin", &origin)])).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in ["sub.agent.example", "example", "agent.example.org", "[fd00::2]", "192.0.2.70"] {
        assert_eq!(service.send(health("1.1", &[("Host", host)])).await.status, 421, "{host}");
    }
}

#[tokio::test]
async fn the_urls_of_the_greeting_work_wherever_it_listens() {
    for listen in ["0.0.0.0:0", "127.3.2.1:0"] {
        // The later argument counts.
        let mut service = Program::start(&["--listen", listen]).await;
        let line = service.line().await.unwrap();
        let url = line.strip_prefix("Swagger UI: http://").unwrap();
        let address = url.strip_suffix("/swagger-ui/").unwrap().to_owned();
        let page = Request::bare("GET", "/swagger-ui/", "1.1").header("Host", &address);
        assert_eq!(page.send(&address).await.status, 200, "{address}");
    }
}
