mod session;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::session::{Ending, Renewal, Session};
use super::carried::Carried;
use super::message::Wakeup;
use super::{BusError, Entry, EntryId, Result, SharedBus};
use crate::panics::with_quiet_waker;

/// The inbox of a running session, for its runner.
///
/// While the inbox is open, the consumer flag of the session is set, so that deliveries send no wakeup: the runner promises
/// to read what arrives. The inbox renews the flag in the background for as long as it is open. [`close`](Self::close)
/// clears the flag, but only when no entry is left.
///
/// # How to run a session
///
/// 1. Take the run lock, [`keys::session_lock`](super::keys::session_lock), for 600 s. If it is held,
///    [retry](super::Wakeups::retry) the wakeup.
/// 2. Open the inbox.
/// 3. Before each step of the agent, read the entries. After the step, remove them. Repeat until the inbox is empty.
/// 4. Close the inbox. If a result has arrived in between, go back to 3.
/// 5. Release the lock. It comes after the flag, so that a process that a result wakes finds the session busy, and waits.
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
/// /// One step of the agent.
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
///         let hints = inbox.peek(100).await?;
///         if let Some(last) = hints.last() {
///             // When the step fails, the inbox is dropped, and the next run reads the same hints.
///             step(&wakeup.session_id, &hints).await?;
///             inbox.remove_through(last.id).await?;
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
/// # A run that fails
///
/// When a run fails or panics, it drops the inbox without closing it. The inbox then closes in the background, on the
/// current runtime or on the one that opened it, if one of them is alive. If entries are left, it first puts one wakeup
/// into the queue, then clears the flag, and then signals the wakeup. So no entry is stranded when the process dies in
/// between. While the bus cannot be reached, the inbox tries again for ten minutes. When the process dies, the flag
/// expires after ten minutes, and the next result wakes the session.
///
/// The flag does not name its owner. A process that runs a session without the run lock, or goes on after it has lost the
/// lock, may clear the flag of another run. That costs one superfluous run, and no result is lost.
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

/// What [`Inbox::close`] returns.
#[derive(Debug)]
#[must_use = "the inbox may have entries"]
pub enum Closing {
    /// The inbox was empty and is closed. The next result wakes the session.
    Closed,
    /// The inbox has entries and stays open.
    Waiting(Inbox),
}

impl Inbox {
    /// Sets the consumer flag of the session. `wakeup` is the wakeup that started the run, which names the session, its
    /// user and its agent. For a run that started otherwise, make one with [`Wakeup::wake`].
    ///
    /// # Errors
    ///
    /// The bus had trouble, or the caller is outside of a tokio runtime. The inbox then clears the flag in the background,
    /// as when an inbox is dropped, because the flag may have been set. The same holds for a call that is dropped before
    /// its end.
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

    /// Takes at most `max` entries, oldest first, and removes them from the inbox. To return entries that the agent did not
    /// get, call [`hand_back`](Self::hand_back).
    ///
    /// # Cancel safety
    ///
    /// This method is not cancel safe. If the future is dropped before its end, such as in `select!`, the bus may have
    /// removed entries that no caller gets. A process that dies after this method loses them too. Where neither may happen,
    /// use [`peek`](Self::peek) and [`remove_through`](Self::remove_through).
    ///
    /// # Errors
    ///
    /// The bus had trouble.
    pub async fn drain(&self, max: usize) -> Result<Vec<Entry>> {
        self.keep_renewing();
        self.session.bus.drain(&self.session.inbox, max).await
    }

    /// Reads at most `max` entries, oldest first, and leaves them in the inbox. An inbox that has entries does not
    /// [close](Self::close), so acknowledge them with [`remove_through`](Self::remove_through).
    ///
    /// A read that is dropped before its end changes nothing.
    ///
    /// # Errors
    ///
    /// The bus had trouble.
    pub async fn peek(&self, max: usize) -> Result<Vec<Entry>> {
        self.keep_renewing();
        self.session.bus.peek(&self.session.inbox, max).await
    }

    /// Removes the entries up to and including `id`, which [`peek`](Self::peek) has returned, in one step. A process that
    /// dies before that leaves the entries to the next run, which reads them again.
    ///
    /// # Errors
    ///
    /// The bus had trouble. Whether the entries were removed is not known then, nor when the call is dropped before its
    /// end. It is safe to repeat.
    pub async fn remove_through(&self, id: EntryId) -> Result<()> {
        self.keep_renewing();
        self.session.bus.remove_through(&self.session.inbox, id).await
    }

    /// Puts drained entries that the agent did not get back into the inbox: at the end, in their order, with new ids. It
    /// sends no wakeup. It removes from `entries` what it has put back.
    ///
    /// # Errors
    ///
    /// The bus had trouble. The rest of `entries` was not put back; whether the first of them was is not known. The same
    /// holds for a call that is dropped before its end.
    pub async fn hand_back(&self, entries: &mut Vec<Entry>) -> Result<()> {
        self.keep_renewing();
        let mut pushed = Pushed { entries, count: 0 };
        while let Some(entry) = pushed.entries.get(pushed.count) {
            self.session.bus.push(&self.session.inbox, &entry.payload, None).await?;
            pushed.count += 1;
        }
        Ok(())
    }

    /// Clears the flag if the inbox is empty, in one step: a result that arrives at this moment either keeps the inbox open
    /// or wakes the session.
    ///
    /// # Errors
    ///
    /// The bus had trouble. Closing goes on in the background, as when an inbox is dropped. The same holds for a call that
    /// is dropped before its end.
    pub async fn close(mut self) -> Result<Closing> {
        self.keep_renewing();
        let session = Arc::clone(&self.session);
        // A renewal that is under way would set the flag again.
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
            Carried::new(Ending::new(Arc::clone(&self.session))).poke_on(&self.runtime);
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("session_id", &self.session_id()).finish_non_exhaustive()
    }
}

/// Removes the entries that were pushed, also when the call is dropped half-way.
struct Pushed<'a> {
    entries: &'a mut Vec<Entry>,
    count: usize,
}

impl Drop for Pushed<'_> {
    fn drop(&mut self) {
        self.entries.drain(..self.count);
    }
}
