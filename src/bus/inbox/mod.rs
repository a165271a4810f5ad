mod session;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::session::{Ending, Renewal, Session};
use super::carried::Carried;
use super::message::Wakeup;
use super::{BusError, Entry, Result, SharedBus};
use crate::panics::with_quiet_waker;

/// The inbox of a session that is being run, for its runner.
///
/// While it is open the session's consumer flag is up, so that deliveries send no wakeup: the runner promises to read
/// what comes. The flag is renewed in the background, however long the run lasts. [`close`](Self::close) ends the
/// promise, and only when nothing is left to read.
///
/// # How to run a session
///
/// 1. Take the run lock, [`keys::session_lock`](super::keys::session_lock), for 600 s. If it is held, [retry](super::Wakeups::retry) the
///    wakeup.
/// 2. Open the inbox.
/// 3. Drain it before each step of the agent, and run until nothing comes any more.
/// 4. Close it. If something came in the meantime, go round again.
/// 5. Give the lock back: after the flag, so that a process that is woken next sees that the session is busy, and waits.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use tower_offload::TaskMeta;
/// use tower_offload::bus::message::Wakeup;
/// use tower_offload::bus::{
///     Closing, Delivery, Entry, Inbox, LeaseOptions, LockExt, MemoryBus, SharedBus, Wakeups, WakeupsHandle, keys,
/// };
/// use tower_offload::manager::BoxError;
///
/// /// What the agent does with what came in.
/// async fn step(session_id: &str, hints: &[Entry]) -> Result<(), BoxError> {
///     println!("{session_id}: {} new hints", hints.len());
///     Ok(())
/// }
///
/// async fn run(bus: SharedBus, wakeup: Wakeup, wakeups: WakeupsHandle) -> Result<(), BoxError> {
///     let now_or_never = LeaseOptions::new().ttl(Duration::from_secs(600)).max_wait(Duration::ZERO);
///     let Ok(lease) = bus.lock(&keys::session_lock(&wakeup.session_id), now_or_never).await else {
///         wakeups.retry(wakeup);
///         return Ok(());
///     };
///     let Ok(mut inbox) = Inbox::open(bus, &wakeup).await else {
///         wakeups.retry(wakeup);
///         return Ok(());
///     };
///     loop {
///         let mut hints = inbox.drain(100).await?;
///         if !hints.is_empty() {
///             if let Err(error) = step(&wakeup.session_id, &hints).await {
///                 // What the agent has not seen goes back, and dropping the inbox wakes for it.
///                 inbox.hand_back(&mut hints).await?;
///                 return Err(error);
///             }
///             continue;
///         }
///         match inbox.close().await? {
///             Closing::Closed => break,
///             Closing::Waiting(again) => inbox = again,
///         }
///     }
///     lease.release().await?;
///     Ok(())
/// }
///
/// let bus: SharedBus = Arc::new(MemoryBus::new());
/// let mut wakeups = Wakeups::start(Arc::clone(&bus));
///
/// let meta = TaskMeta::new("alice", "report").with_session("s1").with_agent("writer");
/// bus.deliver(&Delivery::new("task 1", &meta, r#"{"type": "hint", "hint": "done"}"#.to_owned())).await?;
///
/// # let mut runs = 1;
/// while let Some(wakeup) = wakeups.recv().await {
///     let running = tokio::spawn({
///         let (bus, handle) = (Arc::clone(&bus), wakeups.handle());
///         async move {
///             if let Err(error) = run(bus, wakeup, handle).await {
///                 eprintln!("a run has failed: {error}");
///             }
///         }
///     });
/// #   running.await?;
/// #   runs -= 1;
/// #   if runs == 0 { break }
/// }
/// # assert_eq!(bus.len(&keys::inbox("s1")).await?, 0);
/// # assert!(!bus.contains(&keys::inbox_consumer("s1"), keys::CONSUMER_RUNNING).await?);
/// # assert!(!bus.is_locked(&keys::session_lock("s1")).await?);
/// # Ok(())
/// # }
/// ```
///
/// # A run that ends otherwise
///
/// An inbox that is dropped without being closed, because the run failed or panicked, is closed in the background, on
/// the current runtime or on the one that it was opened on, if one of them is alive. If something is left in it, one wakeup goes into the queue, the flag
/// is taken down and the wakeup is signalled; in this order, so that nothing is stranded wherever that stops. While the
/// bus is away this is tried again, for ten minutes. When the process dies the flag ends with its ten minutes, and
/// the next result wakes.
///
/// The flag does not name its owner. A process that runs a session without its lock, or goes on when the lock is lost,
/// may take down the flag of another run; then one run too many is woken, and nothing is lost.
#[must_use = "dropping it is the end of a run that failed"]
pub struct Inbox {
    session: Arc<Session>,
    runtime: Handle,
    renewal: Option<Background>,
    closed: bool,
}

/// The renewal of the flag, which ends when this is dropped.
struct Background {
    renewal: Carried<Renewal>,
    _stop: DropGuard,
}

/// What became of an [`Inbox`] that was to be closed.
#[derive(Debug)]
#[must_use = "something may wait in the inbox"]
pub enum Closing {
    /// Nothing was left. The next result wakes.
    Closed,
    /// Something waits, and the inbox is open as before.
    Waiting(Inbox),
}

impl Inbox {
    /// Says that the session's inbox is read from now on. `wakeup` names the session, its user and its agent, and is
    /// the one that the session was woken with; for a run that began in another way it is made with
    /// [`Wakeup::wake`].
    ///
    /// # Errors
    ///
    /// The bus had trouble, or there is no tokio runtime around the call. Whether the flag was put up before the
    /// error or not, it is taken down in the background, as when an inbox is dropped. The same goes for a call that
    /// is dropped before its end.
    pub async fn open(bus: SharedBus, wakeup: &Wakeup) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| BusError::new("open an inbox", error))?;
        let session = Arc::new(Session::new(bus, wakeup));
        let mut inbox = Self { session, runtime, renewal: None, closed: false };
        inbox.session.raise_flag().await?;
        let stop = CancellationToken::new();
        let renewal = Carried::new(Renewal::new(Arc::clone(&inbox.session), stop.clone()));
        renewal.poke();
        inbox.renewal = Some(Background { renewal, _stop: stop.drop_guard() });
        Ok(inbox)
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session.wakeup.session_id
    }

    /// Takes at most `max` entries. They are nowhere else any more: see [`hand_back`](Self::hand_back).
    ///
    /// # Errors
    ///
    /// The bus had trouble.
    pub async fn drain(&self, max: usize) -> Result<Vec<Entry>> {
        self.keep_renewing();
        self.session.bus.drain(&self.session.inbox, max).await
    }

    /// Puts entries back that the agent has not seen: at the end, in their order, with new ids. No wakeup is sent.
    ///
    /// What was put back is taken out of `entries`.
    ///
    /// # Errors
    ///
    /// The bus had trouble. Those that are still in `entries` were not put back, but for the first one, of which that
    /// is not known. The same goes for a call that is dropped before its end.
    pub async fn hand_back(&self, entries: &mut Vec<Entry>) -> Result<()> {
        self.keep_renewing();
        let mut pushed = Pushed { entries, count: 0 };
        while let Some(entry) = pushed.entries.get(pushed.count) {
            self.session.bus.push(&self.session.inbox, &entry.payload, None).await?;
            pushed.count += 1;
        }
        Ok(())
    }

    /// Ends the reading if nothing waits. In one step, so that a result that comes at this moment is either found here
    /// or wakes.
    ///
    /// # Errors
    ///
    /// The bus had trouble. Closing goes on in the background, as when an inbox is dropped. The same goes for a call
    /// that is dropped before its end.
    pub async fn close(mut self) -> Result<Closing> {
        self.keep_renewing();
        let session = Arc::clone(&self.session);
        // No renewal may be under way that would put the flag up again.
        let mut reading = with_quiet_waker(session.reading.lock()).await;
        if session.bus.finish_inbox(&session.wakeup.session_id).await? {
            *reading = false;
            self.closed = true;
            return Ok(Closing::Closed);
        }
        Ok(Closing::Waiting(self))
    }
}

impl Inbox {
    /// The runtime that the inbox was opened on may have ended.
    fn keep_renewing(&self) {
        if let Some(background) = &self.renewal {
            background.renewal.poke();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if !self.closed {
            Carried::new(Ending::new(Arc::clone(&self.session))).poke_on(self.runtime.clone());
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("session_id", &self.session_id()).finish_non_exhaustive()
    }
}

/// Takes out what was pushed, also when the pushing is dropped half-way.
struct Pushed<'a> {
    entries: &'a mut Vec<Entry>,
    count: usize,
}

impl Drop for Pushed<'_> {
    fn drop(&mut self) {
        self.entries.drain(..self.count);
    }
}
