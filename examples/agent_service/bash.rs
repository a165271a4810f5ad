//! `bash -c` with all that it starts, as one thing that can be stopped.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_offload::cancellation_token;

use crate::supervisor;

/// How many bytes of the output are kept. The rest is read and dropped, so that the command never waits for a reader.
const MAX_OUTPUT: usize = 1 << 20;
/// How long to wait for the end of the output when the command is gone. Only a process that does not come from the
/// command can still hold the pipe.
const LINGER: Duration = Duration::from_millis(200);
/// How long the service waits at its end for commands beyond their grace time.
const SETTLE: Duration = Duration::from_secs(1);

/// The commands that run.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    grace: Duration,
    /// Cancelled when the service ends.
    ending: CancellationToken,
    running: TaskTracker,
}

/// How a command ended, and what it wrote to stdout and stderr, in that order of writing.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    /// Whether it was asked to stop.
    pub(crate) stopped: bool,
}

impl Commands {
    /// `grace` is the time between SIGTERM and SIGKILL when a command is stopped.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, ending: CancellationToken::new(), running: TaskTracker::new() }
    }

    /// The longest that a command takes to end when it is stopped.
    pub(crate) fn stop_time(&self) -> Duration {
        self.grace.saturating_add(SETTLE)
    }

    /// Runs a command to its end. What it leaves running in the background ends with it.
    ///
    /// It is stopped when the task that it belongs to is stopped, and when the future is dropped.
    pub(crate) async fn run(&self, command: &str) -> io::Result<Finished> {
        let (reader, writer) = io::pipe()?;
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut supervisor = Command::from(supervisor::command_line(command, self.grace));
        supervisor.stdin(OwnedFd::from(theirs)).stdout(writer.try_clone()?).stderr(writer);
        let child = supervisor.spawn()?;
        // It holds ends of the pipe and of the socket, and their other ends would never see that they are closed.
        drop(supervisor);
        ours.set_nonblocking(true)?;
        let (ours, reader) = (UnixStream::from_std(ours)?, pipe::Receiver::from_owned_fd(reader.into())?);
        let stop = cancellation_token();
        // Dropped with this future. The rest goes on until the command is gone, so that a command that tidies up can
        // still write.
        let _guard = stop.clone().drop_guard();
        let finished = self.running.spawn(finish(child, ours, reader, stop, self.ending.clone()));
        finished.await.map_err(io::Error::other)?
    }

    /// Stops all commands and waits until they are gone, for at most [`stop_time`](Self::stop_time).
    ///
    /// Commands of calls in the foreground still run at the end of the service: each connection has a task of its own, which
    /// the end of the server does not end.
    pub(crate) async fn stop_all(&self) {
        self.ending.cancel();
        self.running.close();
        let _ = tokio::time::timeout(self.stop_time(), self.running.wait()).await;
    }
}

async fn finish(
    mut child: Child,
    supervisor: UnixStream,
    mut reader: pipe::Receiver,
    stop: CancellationToken,
    ending: CancellationToken,
) -> io::Result<Finished> {
    let session = child.id();
    let (mut report, asked) = supervisor.into_split();
    let mut output = Output::default();
    let mut text = String::new();
    let status = {
        let mut reading = pin!(output.read(&mut reader));
        let (mut asked, mut read) = (Some(asked), None);
        let mut reporting = pin!(report.read_to_string(&mut text));
        loop {
            tokio::select! {
                () = stop.cancelled(), if asked.is_some() => drop(asked.take()),
                () = ending.cancelled(), if asked.is_some() => drop(asked.take()),
                result = &mut reading, if read.is_none() => read = Some(result),
                // What a supervisor could not say before it was killed is an empty text.
                _ = &mut reporting => break,
            }
        }
        let status = child.wait().await?;
        if status.signal().is_some() {
            kill_session(session);
        }
        if read.is_none() {
            read = tokio::time::timeout(LINGER, reading).await.ok();
        }
        read.unwrap_or(Ok(()))?;
        status
    };
    match text.parse() {
        Ok(raw) => Ok(Finished {
            status: ExitStatus::from_raw(raw),
            output: output.into_text(),
            stopped: stop.is_cancelled() || ending.is_cancelled(),
        }),
        Err(_) if text.is_empty() => {
            Err(io::Error::other(format!("the supervisor of the command: {status}")))
        }
        Err(_) => Err(io::Error::other(text)),
    }
}

/// Kills what a supervisor that was killed itself has left in its session.
fn kill_session(session: Option<u32>) {
    let Some(session) = session.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| getsid(Some(*pid)) == Ok(session)) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    more: usize,
}

impl Output {
    async fn read(&mut self, from: &mut pipe::Receiver) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let keep = read.min(MAX_OUTPUT - self.kept.len());
            self.kept.extend_from_slice(&buffer[..keep]);
            self.more += read - keep;
        }
    }

    fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.more > 0 {
            text.push_str(&format!("\n[{} more bytes not kept]", self.more));
        }
        text
    }
}
