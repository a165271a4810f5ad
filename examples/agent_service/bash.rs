//! `bash -c` with everything that it starts, as one thing that can be stopped.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;

/// What is kept of the output; the rest is read and dropped, so that the command never waits for a reader.
const MAX_OUTPUT: usize = 1 << 20;
/// How long to wait for more output when the command has ended. Only what has left the session can still write.
const LINGER: Duration = Duration::from_millis(200);

/// A session of processes, in the sense of `setsid(2)`. A process group would not do: `timeout(1)`, and a shell with
/// job control, put what they start into groups of their own.
///
/// Dropping it kills them all: at the end, and when the call is stopped. Only what makes itself a session of its own
/// gets away.
struct Session(Pid);

impl Session {
    fn members(&self) -> Vec<Pid> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
        pids.filter(|pid| getsid(Some(*pid)) == Ok(self.0)).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its leader first: one that had time to fork is not looked at twice. Then again until nobody new has turned
        // up; those that are dead already are counted until their parent has taken note.
        let mut seen = Vec::new();
        for _ in 0..100 {
            let members = self.members();
            if members.iter().all(|pid| seen.contains(pid)) {
                return;
            }
            for pid in &members {
                // An error says that it has just ended.
                let _ = kill(*pid, Signal::SIGKILL);
            }
            seen = members;
        }
    }
}

/// Runs a command to its end and answers how it ended, and what it wrote to stdout and stderr, in that order of
/// writing. What it leaves running in the background ends with it. Dropping the future kills the command and
/// whatever it has started.
pub(crate) async fn run(command: &str) -> io::Result<(ExitStatus, String)> {
    let (reader, writer) = io::pipe()?;
    // The child leads no group, so that setsid(1) turns into bash and does not fork: its pid is the session's.
    let mut bash = Command::new("setsid");
    bash.args(["bash", "-c", command])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(true);
    let mut child = bash.spawn()?;
    // It holds the writing ends of the pipe, and the reader would never see the end.
    drop(bash);
    let session = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Session(Pid::from_raw(id)));

    let mut output = Output::default();
    let status = {
        let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut reading = pin!(output.read(&mut reader));
        let mut ending = pin!(child.wait());
        tokio::select! {
            read = &mut reading => {
                read?;
                ending.await?
            }
            status = &mut ending => {
                drop(session);
                // What was written before the end is still in the pipe.
                if let Ok(read) = tokio::time::timeout(LINGER, reading).await {
                    read?;
                }
                status?
            }
        }
    };
    Ok((status, output.into_text()))
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
