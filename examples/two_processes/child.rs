//! The processes that are started, and how to talk to them.

use std::error::Error;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long anything may take that should happen soon.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A `redis-server` that keeps nothing. Dropping it ends it.
pub(crate) struct Server {
    port: u16,
    _child: Child,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        // Free just now, which is enough for an example.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("redis-server: {error}; install it, or name a server with --redis"))?;
        soon("the server to answer", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok().then_some(())
        })
        .await?;
        Ok(Self { port, _child: child })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// One process of the service. Dropping it kills it.
pub(crate) struct Service {
    url: String,
    child: Child,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Service {
    pub(crate) async fn start(name: &str, redis: &str, lease_secs: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--timeout-secs", "0.5", "--redis", redis])
            .args(["--lease-secs", lease_secs])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().ok_or("its output is not there")?;
        let first = BufReader::new(out).lines().next_line().await?.ok_or("it has ended")?;
        let url = first.strip_prefix("listening on ").ok_or("it does not listen")?.to_owned();
        println!("{:<8} {url}", format!("{name}:"));
        Ok(Self { url, child, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("X-User-ID", "alice")
            .body(Full::new(Bytes::from(body)))?;
        let answer = self.client.request(request).await?.into_body().collect().await?;
        Ok(serde_json::from_slice(&answer.to_bytes())?)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, String::new()).await
    }

    /// Calls a tool and answers its response.
    pub(crate) async fn tool(&self, name: &str, input: &Value) -> Result<Value> {
        self.send(Method::POST, &format!("/sessions/s1/tools/{name}"), input.to_string()).await
    }

    /// Calls a tool that takes too long, and answers the id of its task.
    pub(crate) async fn call(&self, name: &str, input: &Value) -> Result<String> {
        let answer = self.tool(name, input).await?;
        let id = answer["metadata"]["task_id"].as_str();
        Ok(id.ok_or_else(|| format!("no task in {answer}"))?.to_owned())
    }

    /// The task, once it is there and as it should be.
    pub(crate) async fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        soon("the task", async || {
            let task = self.get(&format!("/background-tasks/{id}")).await.ok()?;
            (task["task_id"] == id && is_so(&task)).then_some(task)
        })
        .await
    }

    /// The hints in the inbox, once there is one. They are acknowledged, and so no longer there.
    pub(crate) async fn hints(&self) -> Result<Vec<Value>> {
        const DRAIN: &str = "/sessions/s1/inbox/drain";
        soon("a hint", async || {
            let entries = self.send(Method::POST, DRAIN, String::new()).await.ok()?;
            let entries = entries.as_array()?;
            let ack = format!("{DRAIN}?ack={}", entries.last()?["id"].as_str()?);
            self.send(Method::POST, &ack, String::new()).await.ok()?;
            Some(entries.iter().map(|entry| entry["hint"].clone()).collect())
        })
        .await
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends it in good order.
    pub(crate) async fn end(mut self) -> Result<()> {
        let id = self.child.id().ok_or("it has ended")?;
        kill(Pid::from_raw(id.try_into()?), Signal::SIGTERM)?;
        self.child.wait().await?;
        Ok(())
    }
}

/// Asks again and again until there is an answer.
async fn soon<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.map_err(|_| format!("waited in vain for {what}").into())
}
