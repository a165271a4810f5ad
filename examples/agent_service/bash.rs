//! `bash -c` with everything that it starts, as one thing that can be stopped.

use std::io;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::process::Command;

/// What is kept of the output; the rest is read and dropped, so that the command never waits for a reader.
const MAX_OUTPUT: usize = 1 << 20;

/// Kills the whole process group when it is dropped: at the end, and when the call is stopped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // An error says that nobody is left.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs a command to its end and answers how it ended, and what it wrote to stdout and stderr, in that order of
/// writing. Dropping the future kills the command and whatever it has started.
pub(crate) async fn run(command: &str) -> io::Result<(ExitStatus, String)> {
    let (reader, writer) = io::pipe()?;
    let mut bash = Command::new("bash");
    bash.arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let mut child = bash.spawn()?;
    // It holds the writing ends of the pipe, and the reader would never see the end.
    drop(bash);
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Group(Pid::from_raw(id)));
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let end = async {
        let status = child.wait().await;
        // What the command left in the background ends with it, and lets go of the pipe.
        drop(group);
        status
    };
    let (status, output) = tokio::join!(end, read(reader));
    Ok((status?, output?))
}

async fn read(mut from: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut output = Vec::new();
    (&mut from).take(MAX_OUTPUT as u64).read_to_end(&mut output).await?;
    let more = tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if more > 0 {
        text.push_str(&format!("\n[{more} more bytes not kept]"));
    }
    Ok(text)
}
