//! A Redis server of the test's own.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct RedisServer {
    _child: Child,
    port: u16,
}

impl RedisServer {
    /// On a free port, with nothing kept on disk.
    pub(crate) async fn start() -> Self {
        loop {
            // Somebody else may take the port before the server does.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("redis-server")
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("redis-server is needed: tests/all.sh installs it");
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let ready = async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    if line.contains("Ready to accept connections") {
                        // Goes on reading, so that the server is never stuck in writing.
                        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                        return true;
                    }
                }
                false
            };
            if tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap() {
                return Self { _child: child, port };
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}
