mod line;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use redis::{Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::line::{Access, Line, Open, Outcome, on_disconnection};
use self::waiting::Waiting;
use super::super::has_doubled;
use super::answer::{is_fatal, is_read_only, out_of_memory};
use super::contact::Contact;
use super::server::{Server, Trouble};
use crate::panics::{quietly, with_quiet_waker};

/// How often a call looks for a connection: other callers' runtimes may end in the midst of an attempt.
const LOOKS: usize = 3;

/// The one connection for commands: made when it is needed, shared by all callers, and made again when it is lost.
///
/// It is lost when the server closes it, when it fails, when an answer does not come in time (some peers take
/// everything and never answer), and when the runtime that carries it ends. Requests that are under way then fail, or
/// still get their answers, each until its own timeout.
pub(super) struct Link {
    line: Arc<Line>,
    round_trips: AtomicU64,
    out_of_memory: AtomicU64,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            line: Arc::new(Line::new(server)),
            round_trips: AtomicU64::new(0),
            out_of_memory: AtomicU64::new(0),
        }
    }

    /// How many requests were sent so far.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// How many writes the server has refused because it had no memory left.
    pub(super) fn out_of_memory(&self) -> u64 {
        self.out_of_memory.load(Ordering::Relaxed)
    }

    pub(super) fn contact(&self) -> Contact {
        self.line.contact()
    }

    /// Sends commands together and waits for their answers, at most for the timeouts.
    pub(super) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        // The task of the connection wakes all callers, one after the other.
        with_quiet_waker(self.ask(commands)).await
    }

    async fn ask(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let line = &self.line;
        let runtime = Handle::try_current().map_err(|error| line.server.trouble(format_args!("{error}")))?;
        let open = self.open(&runtime).await?;
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let mut connection = open.connection.clone();
        let waiting = Waiting::new(line, open, runtime);

        let answer = connection.send_packed_commands(commands, 0, commands.len());
        let answer = timeout(line.server.response_timeout, answer).await;
        let (generation, asked) = waiting.end();
        match answer {
            Ok(Ok(values)) => {
                if is_read_only(&values) {
                    line.lose(generation, asked, &line.server.trouble(format_args!("it became a replica")));
                } else {
                    line.answered();
                }
                self.note_refusals(out_of_memory(&values) as u64);
                Ok(values)
            }
            Ok(Err(error)) => {
                let trouble = line.server.trouble(format_args!("{error}"));
                if is_fatal(&error) {
                    line.lose(generation, Instant::now(), &trouble);
                }
                Err(trouble)
            }
            Err(_) => Err(line.lose_mute(generation, asked)),
        }
    }

    fn note_refusals(&self, refused: u64) {
        if refused == 0 {
            return;
        }
        let before = self.out_of_memory.fetch_add(refused, Ordering::Relaxed);
        if has_doubled(before, before + refused) {
            let (server, refused_writes) = (self.line.server.address(), before + refused);
            quietly(|| {
                tracing::warn!(%server, refused_writes, "the server of the bus is full: writes were refused");
            });
        }
    }

    /// The connection, once there is one.
    async fn open(&self, runtime: &Handle) -> Result<Open, Trouble> {
        let line = &self.line;
        for _ in 0..LOOKS {
            let (mut attempt, generation) = match line.access()? {
                Access::Open(open) => return Ok(open),
                Access::Wait { attempt, generation } => (attempt, generation),
                Access::Connect { outcome, generation } => {
                    let attempt = outcome.subscribe();
                    self.connect(runtime, generation, outcome);
                    (attempt, generation)
                }
            };
            // The attempt has a timeout of its own. This one is for when its runtime stands still.
            let ended = timeout(line.server.connect_timeout, attempt.wait_for(Option::is_some)).await;
            match ended.map(|ended| ended.map(|outcome| outcome.clone())) {
                Ok(Ok(Some(outcome))) => return outcome,
                // The runtime of the attempt has ended. This call looks again, and makes the next one on its own.
                Ok(_) => {}
                Err(_) => {
                    let trouble = line.server.trouble(format_args!("the attempt to connect did not end"));
                    line.failed(generation, &trouble);
                    return Err(trouble);
                }
            }
        }
        Err(line.server.trouble(format_args!("the runtime of the attempt to connect has ended")))
    }

    /// Starts an attempt to connect. It goes on when the call that needed it is dropped: others may wait for it too.
    fn connect(&self, runtime: &Handle, generation: u64, outcome: watch::Sender<Option<Outcome>>) {
        let (server, line) = (Arc::clone(&self.line.server), Arc::downgrade(&self.line));
        let mut carried = Carried { line: line.clone(), generation, outcome: Some(outcome) };
        runtime.spawn(async move {
            let ended = Arc::new(AtomicBool::new(false));
            let pushes = on_disconnection(line.clone(), generation, Arc::clone(&ended));
            let connected = server.connect(pushes).await;
            let connected = connected.map_err(|error| server.trouble(format_args!("{error}")));
            let (in_use, used) = watch::channel(());
            let connected = connected.and_then(|connection| {
                // Already over: the push that says so is not repeated.
                if ended.load(Ordering::SeqCst) {
                    return Err(server.trouble(format_args!("it closed the connection at once")));
                }
                Ok(Open::new(connection, generation, used))
            });
            drop(server);
            carried.tell(connected);
            in_use.closed().await;
        });
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.line).finish()
    }
}

/// Beside an attempt to connect in its task, and then beside the connection, to notice that their runtime ends: it
/// carries the driver of the connection too.
struct Carried {
    line: Weak<Line>,
    generation: u64,
    /// Until the attempt has ended.
    outcome: Option<watch::Sender<Option<Outcome>>>,
}

impl Carried {
    fn tell(&mut self, connected: Outcome) {
        let (Some(line), Some(outcome)) = (self.line.upgrade(), self.outcome.take()) else { return };
        line.connected(self.generation, &connected);
        outcome.send_replace(Some(connected));
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Some(line) = self.line.upgrade() else { return };
        if self.outcome.is_some() {
            // Before the sender goes, which makes the waiting callers look again.
            line.abandoned(self.generation);
            return;
        }
        let trouble = line.server.trouble(format_args!("the runtime of the connection has ended"));
        quietly(|| line.lose(self.generation, Instant::now(), &trouble));
    }
}
