//! A `redis-server` process of a test's own.
#![allow(dead_code, reason = "each test crate uses some of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use uuid::Uuid;

use super::patience::PATIENCE;

/// Starts the server, prints its process id, and kills it when the test process has ended, in whatever way: that ends the
/// input of the shell. The shell then removes the directory, which is `$0`, because the test process cannot. A runner that
/// stops the tests sends SIGTERM to the shell too, which ends `read` and not the shell. The shell is the parent of the
/// server, so that no other process gets the id until then.
const GUARD: &str = r#"
trap : TERM INT HUP
redis-server "$@" >/dev/null 2>&1 </dev/null &
echo $!
read -r word
kill -9 $!
wait
[ "$word" = keep ] || rm -rf "$0"
"#;

/// A server on a free port of the loopback address. It ends with this value, and at the latest with this process.
pub(crate) struct RedisServer {
    port: u16,
    options: Vec<String>,
    directory: TempDir,
    running: Option<Running>,
}

struct Running {
    guard: Child,
    server: Pid,
}

impl RedisServer {
    /// Keeps nothing over a restart.
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    /// Keeps what it has been told over a restart.
    pub(crate) fn persistent() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub(crate) fn with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port: 0, options, directory, running: None };
        for _ in 0..100 {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The path of the socket, which it listens on too.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Lets the server end in good order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.await_end();
    }

    /// Ends the server at once.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.await_end();
    }

    /// Starts it again on the same port, with what it kept.
    pub(crate) fn restart(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
        assert!(self.launch(), "redis-server does not start again:\n{}", self.log());
    }

    /// Stops time for the server: it takes connections and bytes, as far as the system does, and never answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("the server runs");
        kill(running.server, signal).expect("the server takes signals");
    }

    /// Whether the server answers in the end.
    fn launch(&mut self) -> bool {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD])
            .arg(self.directory.path())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.directory.path())
            .args(["--save", "", "--logfile", "log"])
            .args(&self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let said = guard.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("the shell says the process id");
        let server = Pid::from_raw(line.trim().parse().expect("a process id"));
        self.running = Some(Running { guard, server });

        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if self.answers() {
                return true;
            }
            if is_over(server) {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        self.running = None;
        false
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<[u8; 5]> {
            let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        // One that wants a password is there too; one that still reads its data is not.
        ask().is_ok_and(|answer| answer == *b"+PONG" || answer == *b"-NOAU")
    }

    fn await_end(&mut self) {
        let Some(running) = self.running.take() else { return };
        let give_up = Instant::now() + PATIENCE;
        while !is_over(running.server) || !is_refused(self.address()) {
            assert!(Instant::now() < give_up, "redis-server does not end:\n{}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn log(&self) -> String {
        let mut log = String::new();
        if let Ok(mut file) = File::open(self.directory.path().join("log")) {
            let _ = file.read_to_string(&mut log);
        }
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its input ends the guard, and the guard the server.
        if let Some(mut input) = self.guard.stdin.take() {
            let _ = input.write_all(b"keep\n");
        }
        let _ = self.guard.wait();
    }
}

/// Whether a process has ended; its parent may not have noticed yet.
fn is_over(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

fn is_refused(address: SocketAddr) -> bool {
    let attempt = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    attempt.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A port that nobody listens on. Below those that the system gives to clients, so that none of them gets it while
/// the server is away.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = 10_000 + u16::try_from(Uuid::new_v4().as_u128() % 20_000).expect("it is below 20,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
