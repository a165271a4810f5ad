//! `rediss://`, with a certificate that is made for the test.

use std::path::Path;
use std::process::Command;

use tower_offload::RedisBus;
use tower_offload::bus::{PubSub, Queue};

use crate::redis_server::{RedisServer, free_port};
use crate::tools::{payload, said, soon};

const URL: &str = "TLS_TEST_URL";

fn openssl(directory: &Path, arguments: &str) {
    let made = Command::new("openssl").current_dir(directory).args(arguments.split(' ')).output();
    let made = made.expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// An authority, and a server of the loopback address that it vouches for.
fn make_certificates(directory: &Path) {
    const NEW: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(directory, &format!("{NEW} -subj /CN=authority -keyout ca.key -out ca.pem"));
    let server = "-CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
    let names = "-addext subjectAltName=IP:127.0.0.1,DNS:localhost";
    openssl(directory, &format!("{NEW} -subj /CN=server {server} {names} -keyout key.pem -out cert.pem"));
}

#[tokio::test]
async fn the_certificate_decides() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (port, cert, key, ca) = (free_port().to_string(), file("cert.pem"), file("key.pem"), file("ca.pem"));
    let _server = RedisServer::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://127.0.0.1:{port}");

    // Nobody here has heard of the authority.
    let error = soon(RedisBus::builder(&url).connect()).await.unwrap_err();
    assert!(said(&error).contains("UnknownIssuer"), "{}", said(&error));

    // What is trusted is read from the environment, which only another process can have changed.
    let trusting = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::a_trusted_server_is_used_over_tls", "--include-ignored", "--nocapture"])
        .env("SSL_CERT_FILE", &ca)
        .env(URL, &url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "part of the test above"]
async fn a_trusted_server_is_used_over_tls() {
    // Those who run all that is ignored come here without it.
    let Ok(url) = std::env::var(URL) else { return };
    let bus = RedisBus::builder(url).connect().await.unwrap();
    bus.push("q", "{}", None).await.unwrap();
    let mut subscription = bus.subscribe(&["c"]).await.unwrap();
    bus.publish("c", "1").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
}
