use std::net::SocketAddr;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower_offload::task::{Scope, TaskRecord};
use tower_offload::{BackgroundTasks, TaskManager, TaskMeta};

/// A router on a socket; it goes down with the value.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    /// The two endpoints as they come.
    pub(crate) async fn of(manager: &TaskManager) -> Self {
        Self::start(BackgroundTasks::new(manager.clone()).router()).await
    }

    /// `GET` by a user.
    pub(crate) async fn get(&self, user: &str, path: &str) -> Answer {
        self.request("GET", path, &[("X-User-ID", user.as_bytes())]).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &[u8])]) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n").into_bytes();
        for (name, value) in headers {
            request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        let answer = self.raw(&request).await;
        Answer::parse(&answer).unwrap_or_else(|| panic!("no answer to {method} {path}: {answer:?}"))
    }

    /// Sends bytes, and reads until the server closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is no matter.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without the date, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers = headers.filter(|(name, _)| name != "date").collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// That it is a problem of this status, in the one form that problems have.
    pub(crate) fn expect_problem(&self, status: u16, anchor: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().ends_with(&format!("#{anchor}")), "{problem}");
        problem
    }
}

/// A task that runs until it is stopped.
pub(crate) fn start(manager: &TaskManager, meta: TaskMeta) -> TaskRecord {
    manager.spawn(meta, std::future::pending::<()>()).unwrap()
}

/// A task that has ended.
pub(crate) async fn finish(
    manager: &TaskManager,
    meta: TaskMeta,
    result: Result<(), &'static str>,
) -> TaskRecord {
    let scope = Scope::user(meta.user_id());
    let task = manager.spawn(meta, async move { result }).unwrap();
    manager.wait(&scope, task.id).await.unwrap().unwrap()
}

pub(crate) fn listed(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    let names =
        list["tasks"].as_array().unwrap().iter().map(|task| task["tool_name"].as_str().unwrap().to_owned());
    let names: Vec<_> = names.collect();
    assert_eq!(list["total"], names.len());
    names
}
