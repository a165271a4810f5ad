use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::client::{is_fatal, is_read_only};
use super::contact::Contact;
use super::server::{Server, Trouble};

/// Between an attempt to connect that failed and the next one.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// The one connection for commands: made when it is needed, shared by all callers, and made again when it is lost.
///
/// It is lost when the server closes it, when it fails, and when an answer does not come in time: there are peers that
/// take everything and never answer. Requests that are under way then may still get their answers, each until its own
/// timeout.
pub(super) struct Link {
    server: Arc<Server>,
    state: Mutex<State>,
    /// Attempts and connections that failed since the last answer.
    failures: AtomicU32,
    round_trips: AtomicU64,
    this: Weak<Self>,
}

struct State {
    phase: Phase,
    /// Of the attempt to connect, and of the connection that it led to.
    generation: u64,
    contact: Contact,
}

enum Phase {
    Down { retry_at: Option<Instant> },
    Connecting(watch::Receiver<Option<Attempt>>),
    Up(Open),
}

/// How an attempt to connect ended.
type Attempt = Result<Open, Trouble>;

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    generation: u64,
    /// Whether somebody asks on behalf of callers who left.
    probing: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Arc<Self> {
        let phase = Phase::Down { retry_at: None };
        let state = Mutex::new(State { phase, generation: 0, contact: Contact::new() });
        Arc::new_cyclic(|this| Self {
            server,
            state,
            failures: AtomicU32::new(0),
            round_trips: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    /// How many requests were sent so far.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    pub(super) fn contact(&self) -> Contact {
        self.state().contact.clone()
    }

    /// Sends commands together and waits for their answers, at most for the timeouts.
    pub(super) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let runtime = Handle::try_current().map_err(|error| self.server.trouble(format_args!("{error}")))?;
        let open = self.open(&runtime).await?;
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { link: self, open, runtime, asked: Instant::now(), over: false };

        let mut connection = waiting.open.connection.clone();
        let answer = connection.send_packed_commands(commands, 0, commands.len());
        let answer = timeout(self.server.response_timeout, answer).await;
        let (generation, asked) = waiting.end();
        match answer {
            Ok(Ok(values)) => {
                if is_read_only(&values) {
                    self.lose(generation, asked, &self.server.trouble(format_args!("it became a replica")));
                } else if self.failures.load(Ordering::Relaxed) != 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                Ok(values)
            }
            Ok(Err(error)) => {
                let trouble = self.server.trouble(format_args!("{error}"));
                if is_fatal(&error) {
                    self.lose(generation, Instant::now(), &trouble);
                }
                Err(trouble)
            }
            Err(_) => Err(self.lose_mute(generation, asked)),
        }
    }

    /// The connection, once there is one.
    async fn open(&self, runtime: &Handle) -> Result<Open, Trouble> {
        let mut attempt = {
            let mut state = self.state();
            match &state.phase {
                Phase::Up(open) => return Ok(open.clone()),
                Phase::Connecting(attempt) => attempt.clone(),
                Phase::Down { retry_at: Some(at) } if *at > Instant::now() => {
                    let last = state.contact.last_error.clone();
                    return Err(last.unwrap_or_else(|| self.server.trouble(format_args!("not connected"))));
                }
                Phase::Down { .. } => self.connect(&mut state, runtime),
            }
        };
        // The attempt has a timeout of its own. This one is for when its runtime stands still.
        let ended = timeout(self.server.connect_timeout, attempt.wait_for(Option::is_some)).await;
        if let Ok(Ok(outcome)) = &ended
            && let Some(outcome) = &**outcome
        {
            return outcome.clone();
        }
        drop(ended);
        let trouble = self.server.trouble(format_args!("the attempt to connect did not end"));
        let mut state = self.state();
        if matches!(&state.phase, Phase::Connecting(current) if current.same_channel(&attempt)) {
            self.failed(&mut state, &trouble);
        }
        Err(trouble)
    }

    /// Starts an attempt to connect. It goes on when the call that needed it is dropped: others may wait for it too.
    fn connect(&self, state: &mut State, runtime: &Handle) -> watch::Receiver<Option<Attempt>> {
        state.generation += 1;
        let generation = state.generation;
        let (outcome, attempt) = watch::channel(None);
        state.phase = Phase::Connecting(attempt.clone());

        let (server, this) = (Arc::clone(&self.server), self.this.clone());
        runtime.spawn(async move {
            let ended = Arc::new(AtomicBool::new(false));
            let connected = server.connect(disconnection(this.clone(), generation, Arc::clone(&ended))).await;
            if let Some(link) = this.upgrade() {
                outcome.send_replace(Some(link.connected(generation, connected, &ended)));
            }
        });
        attempt
    }

    fn connected(
        &self,
        generation: u64,
        connected: Result<MultiplexedConnection, RedisError>,
        ended: &AtomicBool,
    ) -> Attempt {
        let mut state = self.state();
        let attempt =
            connected.map_err(|error| self.server.trouble(format_args!("{error}"))).and_then(|connection| {
                // Already over: nobody will be told again.
                if ended.load(Ordering::SeqCst) {
                    return Err(self.server.trouble(format_args!("it closed the connection at once")));
                }
                Ok(Open { connection, generation, probing: Arc::default() })
            });
        // It took so long that others no longer wait for it.
        if state.generation != generation || !matches!(state.phase, Phase::Connecting(_)) {
            return attempt;
        }
        match &attempt {
            Ok(open) => {
                state.phase = Phase::Up(open.clone());
                state.contact.made();
                tracing::debug!(server = %self.server.address(), "connected to Redis");
            }
            Err(trouble) => self.failed(&mut state, trouble),
        }
        attempt
    }

    /// Notes that an attempt failed.
    fn failed(&self, state: &mut State, trouble: &Trouble) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        state.phase = Phase::Down { retry_at: Some(Instant::now() + PAUSES.pause(failures)) };
        state.contact.failed(trouble.clone());
        // Once for each time that the server is lost; whoever calls is told each time.
        if failures == 1 {
            tracing::warn!(%trouble, "no connection to Redis");
        }
    }

    /// Gives a connection up, unless another one is there already. `since`: when it was last known to be well.
    fn lose(&self, generation: u64, since: Instant, trouble: &Trouble) {
        // Dropped after the lock is gone: that may end the task that this runs in.
        let _phase = {
            let mut state = self.state();
            match &state.phase {
                Phase::Up(open) if open.generation == generation => {
                    self.take_down(&mut state, since, trouble)
                }
                _ => return,
            }
        };
    }

    fn take_down(&self, state: &mut State, since: Instant, trouble: &Trouble) -> Phase {
        // The first time the next call may try at once. A server that takes connections and then fails has to wait.
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let retry_at = (failures > 0).then(|| Instant::now() + PAUSES.pause(failures));
        state.contact.lost(since, trouble.clone());
        tracing::debug!(%trouble, "the connection to Redis was lost");
        std::mem::replace(&mut state.phase, Phase::Down { retry_at })
    }

    /// Gives a connection up on which a request of `asked` was not answered in time.
    fn lose_mute(&self, generation: u64, asked: Instant) -> Trouble {
        let trouble =
            self.server.trouble(format_args!("no answer within {:?}", self.server.response_timeout));
        self.lose(generation, asked, &trouble);
        trouble
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Somebody waits for an answer.
///
/// A caller who leaves does not find out that no answer comes, and if all of them leave early nobody does. So the
/// first one who leaves lets a task ask in their place.
struct Waiting<'a> {
    link: &'a Link,
    open: Open,
    runtime: Handle,
    asked: Instant,
    over: bool,
}

impl Waiting<'_> {
    /// The wait had an end. Returns on which connection it was and when it began.
    fn end(mut self) -> (u64, Instant) {
        self.over = true;
        (self.open.generation, self.asked)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over || self.open.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let Open { mut connection, generation, probing } = self.open.clone();
        let probing = Probing(probing);
        let (link, asked, waited) = (self.link.this.clone(), self.asked, self.link.server.response_timeout);
        // On a runtime that has shut down this does nothing.
        self.runtime.spawn(async move {
            let ping = redis::cmd("PING");
            let answer = timeout(waited, connection.send_packed_command(&ping)).await;
            drop(probing);
            if let (Err(_), Some(link)) = (answer, link.upgrade()) {
                link.lose_mute(generation, asked);
            }
        });
    }
}

/// Ends also when its task is dropped.
struct Probing(Arc<AtomicBool>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What the connection calls when it has ended, also while nobody uses it.
fn disconnection(
    link: Weak<Link>,
    generation: u64,
    ended: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            ended.store(true, Ordering::SeqCst);
            if let Some(link) = link.upgrade() {
                let trouble = link.server.trouble(format_args!("the connection ended"));
                link.lose(generation, Instant::now(), &trouble);
            }
        }
        Ok(())
    }
}
