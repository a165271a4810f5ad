//! Writes down what a process says to the server, so that a bare client can say the very same.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A command with its arguments.
pub(crate) type Command = Vec<Vec<u8>>;

/// A way to the server that is listened to.
pub(crate) struct Tap {
    port: u16,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub(crate) async fn on(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, Arc::clone(&heard)));
            }
        });
        Self { port, said }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What was said since this was asked the last time. Nothing must be under way.
    pub(crate) fn take(&self) -> Vec<Command> {
        let bytes = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut rest, mut commands) = (&*bytes, Vec::new());
        while !rest.is_empty() {
            let arguments = number(&mut rest, b'*');
            commands.push(
                (0..arguments)
                    .map(|_| {
                        let length = number(&mut rest, b'$');
                        let (argument, after) = rest.split_at(length);
                        rest = &after[2..];
                        argument.to_vec()
                    })
                    .collect(),
            );
        }
        commands
    }
}

async fn pass_on(client: TcpStream, server: u16, heard: Arc<Mutex<Vec<u8>>>) {
    let server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server is there");
    for side in [&client, &server] {
        side.set_nodelay(true).expect("the option is there");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
        if to_server.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A number after its mark, up to the end of the line.
fn number(rest: &mut &[u8], mark: u8) -> usize {
    assert_eq!(rest[0], mark, "a command is an array of texts");
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a line has an end");
    let number = std::str::from_utf8(&rest[1..end]).expect("digits");
    let number = number.parse().expect("a number");
    *rest = &rest[end + 2..];
    number
}
