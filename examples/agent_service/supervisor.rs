//! The parent of each command: a process that ends all that the command has started, whatever ends the service.
//!
//! A service that is killed cannot tidy up, so the service does not start commands itself. It starts its own program
//! once more as a supervisor for each of them, and keeps the other end of the supervisor's standard input. When the
//! service closes that end to stop the command, or the kernel closes it because the service is gone, the supervisor
//! sends SIGTERM to all that the command has started, and after a grace time SIGKILL.
//!
//! The supervisor is a subreaper: a process whose parent has ended becomes its child. So all that the command has
//! started can be found, also what has left the process group or the session, and the supervisor has no child left
//! exactly when nothing of the command runs any more.
//!
//! As process 1 of a container the program does the same for the service as a whole, and reaps what others leave.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setsid};
use tokio::io::AsyncReadExt;
use tokio::runtime;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{interval, sleep};

use crate::signals::Signals;

/// The first argument of a supervisor. Its grace time in milliseconds and the command follow.
const MODE: &str = "--supervise-command";
/// How often what was killed is looked for again, because it may have forked in the meantime.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long to wait for what was killed. A process of another user cannot be killed at all.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The grace time of process 1: longer than that of the supervisors, which end in it.
const INIT_GRACE: Duration = Duration::from_secs(5);

/// Runs as a supervisor or as process 1, if this process is one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == MODE) {
        return Some(supervise(args.next(), args.next()));
    }
    (getpid().as_raw() == 1).then(|| {
        block_on(init()).unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        })
    })
}

/// The command line of a supervisor for `command`. It reports on its standard input, which is a socket.
pub(crate) fn command_line(command: &str, grace: Duration) -> Command {
    let mut program = this_program();
    program.arg(MODE).arg(grace.as_millis().to_string()).arg(command);
    program
}

/// This program, even if its file was replaced since it was started.
fn this_program() -> Command {
    let link = Path::new("/proc/self/exe");
    let name = std::env::args_os().next().unwrap_or_else(|| "agent_service".into());
    let mut program = match std::env::current_exe() {
        Ok(file) if !link.exists() => Command::new(file),
        _ => Command::new(link),
    };
    program.arg0(name);
    program
}

fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn supervise(grace: Option<OsString>, command: Option<OsString>) -> ExitCode {
    // Away from the terminal: its Ctrl-C and its end are the service's to hear.
    let _ = setsid();
    let grace = grace.and_then(|grace| grace.to_str()?.parse().ok()).map(Duration::from_millis);
    let (Some(grace), Some(command)) = (grace, command) else { return ExitCode::FAILURE };
    let Ok(service) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut service = UnixStream::from(service);
    let report = match block_on(supervised(&service, &command, grace)) {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    // A service that is gone does not read it.
    let _ = service.set_nonblocking(false).and_then(|()| service.write_all(report.as_bytes()));
    ExitCode::SUCCESS
}

/// Runs the command until it ends or has to, and then ends what is left of it. Returns the command's wait status.
async fn supervised(service: &UnixStream, command: &OsString, grace: Duration) -> io::Result<i32> {
    service.set_nonblocking(true)?;
    let mut service = tokio::net::UnixStream::from_std(service.try_clone()?)?;
    let mut signals = Signals::listen()?;
    let mut bash = Command::new("bash");
    bash.args(["-c", "--"]).arg(command).stdin(Stdio::null());
    let mut children = Children::start(bash)?;
    let mut byte = [0];
    tokio::select! {
        () = children.main_ended() => {}
        // The service writes nothing: this is the end of the stream.
        _ = service.read(&mut byte) => {}
        _ = signals.next() => {}
    }
    children.end(grace).await;
    Ok(children.status())
}

/// Runs the service below process 1, and hands on the signals that are meant for it.
async fn init() -> io::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut service = this_program();
    // In a group of its own, so that a Ctrl-C in the terminal reaches it once and not twice.
    service.args(std::env::args_os().skip(1)).process_group(0);
    let mut children = Children::start(service)?;
    loop {
        tokio::select! {
            () = children.main_ended() => break,
            signal = signals.next() => {
                let _ = kill(children.main, signal);
            }
        }
    }
    children.end(INIT_GRACE).await;
    let status = children.status();
    // As a shell reports it.
    let code = if status & 0x7f == 0 { status >> 8 } else { 128 + (status & 0x7f) };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The one child that was started, and all that came from it.
struct Children {
    main: Pid,
    /// As `waitpid` has it.
    status: Option<i32>,
    changed: unix::Signal,
}

impl Children {
    fn start(mut command: Command) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true)?;
        let changed = unix::signal(SignalKind::child())?;
        let main = i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
        Ok(Self { main: Pid::from_raw(main), status: None, changed })
    }

    async fn main_ended(&mut self) {
        while self.reap() && self.status.is_none() {
            self.changed.recv().await;
        }
    }

    fn status(&self) -> i32 {
        self.status.unwrap_or(Signal::SIGKILL as i32)
    }

    /// Takes note of those that have ended, and answers whether any are left.
    fn reap(&mut self) -> bool {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return true,
                Ok(WaitStatus::Exited(pid, code)) => (pid, code << 8),
                Ok(WaitStatus::Signaled(pid, signal, core)) => (pid, signal as i32 | i32::from(core) << 7),
                Err(Errno::ECHILD) => return false,
                // A real-time signal, which nix cannot name, has ended one of them.
                Err(Errno::EINVAL) if kill(self.main, None).is_err() => (self.main, Signal::SIGKILL as i32),
                Ok(_) | Err(_) => continue,
            };
            if pid == self.main {
                self.status.get_or_insert(status);
            }
        }
    }

    /// Ends all of them: SIGTERM, a grace time, SIGKILL.
    async fn end(&mut self, grace: Duration) {
        for pid in descendants(self.main) {
            let _ = kill(pid, Signal::SIGTERM);
            // One that is stopped hears nothing otherwise.
            let _ = kill(pid, Signal::SIGCONT);
        }
        let in_good_order = async {
            while self.reap() {
                self.changed.recv().await;
            }
        };
        if tokio::time::timeout(grace, in_good_order).await.is_ok() {
            return;
        }
        let (mut again, give_up) = (interval(LOOK_AGAIN), sleep(GIVE_UP));
        tokio::pin!(give_up);
        while self.reap() {
            tokio::select! {
                _ = again.tick() => {
                    for pid in descendants(self.main) {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                _ = self.changed.recv() => {}
                () = &mut give_up => return,
            }
        }
    }
}

/// All processes that come from this one. Where there is no `/proc`, only `main`.
fn descendants(main: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(&entry.path()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    if children.is_empty() {
        return vec![main];
    }
    let mut found = children.remove(&getpid().as_raw()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more = children.remove(pid).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found.into_iter().map(Pid::from_raw).collect()
}

fn parent(process: &Path) -> Option<i32> {
    let stat = std::fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name is in parentheses and can hold anything; its state and its parent follow.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
