use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::backoff::Backoff;
use super::super::contact::Contact;
use super::super::server::{Server, Trouble};
use crate::panics::quietly;

/// Between an attempt to connect that failed and the next one.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// What is known about the connection for commands.
///
/// Log lines are written after the lock is released: a `tracing` subscriber may call the bus.
pub(super) struct Line {
    pub(super) server: Arc<Server>,
    state: Mutex<State>,
    /// Attempts and connections that failed since the last answer.
    failures: AtomicU32,
    /// Whether the log says that there is no connection, since the last answer.
    is_logged: AtomicBool,
}

struct State {
    phase: Phase,
    /// Of the attempt to connect, and of the connection that it led to.
    generation: u64,
    contact: Contact,
}

enum Phase {
    Down { retry_at: Option<Instant> },
    Connecting(Attempt),
    Up(Open),
}

/// The end of an attempt to connect, for all callers that wait for it. The sender is gone without an outcome when the
/// runtime of the attempt has ended.
pub(super) type Attempt = watch::Receiver<Option<Outcome>>;

/// How an attempt to connect ended.
pub(super) type Outcome = Result<Open, Trouble>;

#[derive(Clone)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether a task asks in place of callers that have left.
    probing: AtomicBool,
    /// Gone with the last reference to the connection, which the other half waits for.
    _in_use: watch::Receiver<()>,
}

impl Open {
    pub(super) fn new(
        connection: MultiplexedConnection,
        generation: u64,
        in_use: watch::Receiver<()>,
    ) -> Self {
        let shared = Shared { probing: AtomicBool::new(false), _in_use: in_use };
        Self { connection, generation, shared: Arc::new(shared) }
    }

    /// The right to ask in place of callers that have left, unless another task has it.
    pub(super) fn probe(&self) -> Option<Probing> {
        let taken = self.shared.probing.swap(true, Ordering::SeqCst);
        (!taken).then(|| Probing(Arc::clone(&self.shared)))
    }
}

/// Ends also when its task is dropped.
pub(super) struct Probing(Arc<Shared>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::SeqCst);
    }
}

/// Where a call that needs the connection finds it.
pub(super) enum Access {
    Open(Open),
    Wait {
        attempt: Attempt,
        generation: u64,
    },
    /// The caller makes the attempt, and tells its outcome.
    Connect {
        outcome: watch::Sender<Option<Outcome>>,
        generation: u64,
    },
}

impl Line {
    pub(super) fn new(server: Arc<Server>) -> Self {
        let phase = Phase::Down { retry_at: None };
        let state = Mutex::new(State { phase, generation: 0, contact: Contact::new() });
        Self { server, state, failures: AtomicU32::new(0), is_logged: AtomicBool::new(false) }
    }

    pub(super) fn contact(&self) -> Contact {
        self.state().contact.clone()
    }

    pub(super) fn access(&self) -> Result<Access, Trouble> {
        let mut state = self.state();
        match &state.phase {
            Phase::Up(open) => Ok(Access::Open(open.clone())),
            Phase::Connecting(attempt) => {
                Ok(Access::Wait { attempt: attempt.clone(), generation: state.generation })
            }
            Phase::Down { retry_at: Some(at) } if *at > Instant::now() => {
                let last = state.contact.last_error.clone();
                Err(last.unwrap_or_else(|| self.server.trouble(format_args!("not connected"))))
            }
            Phase::Down { .. } => {
                state.generation += 1;
                let (outcome, attempt) = watch::channel(None);
                state.phase = Phase::Connecting(attempt);
                Ok(Access::Connect { outcome, generation: state.generation })
            }
        }
    }

    /// Notes how an attempt ended.
    pub(super) fn connected(&self, generation: u64, outcome: &Outcome) {
        {
            let mut state = self.state();
            // It took so long that the callers no longer wait for it.
            if state.generation != generation || !matches!(state.phase, Phase::Connecting(_)) {
                return;
            }
            if let Ok(open) = outcome {
                state.phase = Phase::Up(open.clone());
                state.contact.made();
            }
        }
        match outcome {
            Ok(_) => tracing::debug!(server = %self.server.address(), "connected to Redis"),
            Err(trouble) => self.failed(generation, trouble),
        }
    }

    /// Notes that an attempt failed, unless it has ended already.
    pub(super) fn failed(&self, generation: u64, trouble: &Trouble) {
        {
            let mut state = self.state();
            if state.generation != generation || !matches!(state.phase, Phase::Connecting(_)) {
                return;
            }
            let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            state.phase = Phase::Down { retry_at: Some(Instant::now() + PAUSES.pause(failures)) };
            state.contact.failed(trouble.clone());
        }
        // One line for each time that the server is lost; each caller gets the error.
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%trouble, "no connection to Redis");
        }
    }

    /// Notes that the runtime of an attempt has ended before the attempt did. The next call makes another one at once.
    pub(super) fn abandoned(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation && matches!(state.phase, Phase::Connecting(_)) {
            state.phase = Phase::Down { retry_at: None };
        }
    }

    /// The server has answered as it should.
    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.is_logged.store(false, Ordering::Relaxed);
        }
    }

    /// Gives a connection up, unless another one is there already. `since`: when it was last known to be well.
    pub(super) fn lose(&self, generation: u64, since: Instant, trouble: &Trouble) {
        let lost = {
            let mut state = self.state();
            match &state.phase {
                Phase::Up(open) if open.generation == generation => {
                    // After the first loss the next call may try at once. A server that takes connections and then
                    // fails is left alone for a while.
                    let failures = self.failures.fetch_add(1, Ordering::Relaxed);
                    let retry_at = (failures > 0).then(|| Instant::now() + PAUSES.pause(failures));
                    state.contact.lost(since, trouble.clone());
                    std::mem::replace(&mut state.phase, Phase::Down { retry_at })
                }
                _ => return,
            }
        };
        tracing::debug!(%trouble, "the connection to Redis was lost");
        // This may end the task that it runs in.
        drop(lost);
    }

    /// Gives a connection up on which a request of `asked` was not answered in time.
    pub(super) fn lose_mute(&self, generation: u64, asked: Instant) -> Trouble {
        let trouble =
            self.server.trouble(format_args!("no answer within {:?}", self.server.response_timeout));
        self.lose(generation, asked, &trouble);
        trouble
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What the connection calls when it has ended, also while no call uses it.
pub(super) fn on_disconnection(
    line: Weak<Line>,
    generation: u64,
    ended: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            ended.store(true, Ordering::SeqCst);
            if let Some(line) = line.upgrade() {
                let trouble = line.server.trouble(format_args!("the connection ended"));
                // It runs in the driver of the connection: a `tracing` subscriber that panics must not end that before
                // the requests under way have their answers.
                quietly(|| line.lose(generation, Instant::now(), &trouble));
            }
        }
        Ok(())
    }
}
