//! A client that does as little as one can: it writes requests that are there, and counts the bytes of the answers.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::measure::runtime::current_thread;

const CONNECTIONS: usize = 32;

/// Open connections. The thread that uses it is the client.
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let runtime = current_thread();
        let connections = runtime.block_on(join_all((0..CONNECTIONS).map(|_| async {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("the option is there");
            Connection { stream, buffer: vec![0; 64 << 10] }
        })));
        Self { runtime, connections }
    }

    /// Sends all requests, each when a connection is free, and answers how long that took.
    pub(super) fn send(&mut self, requests: &[Vec<u8>]) -> Duration {
        let next = Cell::new(0);
        let begun = Instant::now();
        self.runtime.block_on(join_all(self.connections.iter_mut().map(async |connection| {
            while let Some(request) = requests.get(next.replace(next.get() + 1)) {
                connection.ask(request).await;
            }
        })));
        begun.elapsed()
    }

    /// One answer's body.
    pub(super) fn body(&mut self, request: &[u8]) -> Vec<u8> {
        let connection = &mut self.connections[0];
        let (head, length) = self.runtime.block_on(connection.ask(request));
        connection.buffer[head..length].to_vec()
    }
}

impl Connection {
    /// Where the body of the answer begins and ends in the buffer.
    async fn ask(&mut self, request: &[u8]) -> (usize, usize) {
        self.stream.write_all(request).await.expect("the server reads");
        let (mut read, mut body) = (0, None);
        loop {
            let more = self.stream.read(&mut self.buffer[read..]).await.expect("the server answers");
            assert_ne!(more, 0, "the connection was closed");
            read += more;
            body = body.or_else(|| body_of(&self.buffer[..read]));
            if let Some((begin, length)) = body
                && read >= begin + length
            {
                return (begin, begin + length);
            }
        }
    }
}

/// Where the body begins, and its length, once the whole head is there.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok());
    Some((end + 4, length.expect("the answer says its length")))
}
