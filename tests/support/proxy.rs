//! A way to a server that can be cut, stalled and slowed down.
#![allow(dead_code, reason = "each test crate uses some of it")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What becomes of what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Pass,
    /// All connections are closed, and new ones as soon as they are there.
    Cut,
    /// Everything is taken and nothing is handed on: connections on which something got lost in this way stay mute for
    /// good, new ones are taken.
    Stall,
    /// Each piece is handed on so much later.
    Delay(Duration),
}

/// A proxy of one port, which ends with this value. It lives in the runtime that it was started in.
pub(crate) struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    counts: Arc<Counts>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    passed: AtomicUsize,
    swallowed: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (way, look) = watch::channel(Way::Pass);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, target, look, Arc::clone(&counts)));
        Self { port, way, counts, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Connections now.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Pieces that were handed on, in both directions.
    pub(crate) fn passed(&self) -> usize {
        self.counts.passed.load(Ordering::SeqCst)
    }

    /// Pieces that were taken and not handed on.
    pub(crate) fn swallowed(&self) -> usize {
        self.counts.swallowed.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, target: u16, way: watch::Receiver<Way>, counts: Arc<Counts>) {
    // They end with the task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(client, target, way.clone(), Arc::clone(&counts)));
    }
}

async fn connect(client: TcpStream, target: u16, mut way: watch::Receiver<Way>, counts: Arc<Counts>) {
    struct Closed(Arc<Counts>);

    impl Drop for Closed {
        fn drop(&mut self) {
            self.0.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    counts.open.fetch_add(1, Ordering::SeqCst);
    let _closed = Closed(Arc::clone(&counts));
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let look = way.clone();
    tokio::select! {
        () = pump(from_client, to_server, look.clone(), &counts) => {}
        () = pump(from_server, to_client, look, &counts) => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: watch::Receiver<Way>, counts: &Counts) {
    let mut piece = vec![0; 64 * 1024];
    let mut mute = false;
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        let now = *way.borrow();
        mute |= now == Way::Stall;
        if mute {
            counts.swallowed.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        if let Way::Delay(by) = now {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&piece[..len]).await.is_err() {
            return;
        }
        counts.passed.fetch_add(1, Ordering::SeqCst);
    }
}
