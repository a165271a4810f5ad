//! An HTTP/1.1 client that sends what it is told to, well-formed or not.
#![allow(dead_code, reason = "each test crate uses some of it")]

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name; of a repeated one the last.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A request, built as text.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self::bare(method, target, "1.1").header("Host", "localhost")
    }

    /// Without a `Host`, in this version of HTTP.
    pub(crate) fn bare(method: &str, target: &str, version: &str) -> Self {
        let head = format!("{method} {target} HTTP/{version}\r\nConnection: close\r\n");
        Self { bytes: head.into_bytes(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value.as_ref());
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The open connection, with the request written to it.
    pub(crate) async fn write(self, address: &str) -> TcpStream {
        let request = self.header_of_length();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that refuses a large body may stop reading before its end.
        let _ = stream.write_all(&request).await;
        stream
    }

    fn header_of_length(self) -> Vec<u8> {
        let length = self.body.len();
        let Self { mut bytes, body } = self.header("Content-Length", length.to_string());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body);
        bytes
    }

    /// The answer, or none of a server that goes meanwhile.
    pub(crate) async fn try_send(self, address: &str) -> Option<Answer> {
        let request = self.header_of_length();
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&request).await.ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok()?;
        (!bytes.is_empty()).then(|| parse(&bytes))
    }

    pub(crate) async fn send(self, address: &str) -> Answer {
        let stream = self.write(address).await;
        read(stream).await
    }
}

/// Reads the answer until the server closes the connection.
pub(crate) async fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is what a server does that did not read the whole request.
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer: {:?}", String::from_utf8_lossy(bytes));
    });
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    assert_ne!(headers.get("transfer-encoding").map(String::as_str), Some("chunked"), "not read here");
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}
