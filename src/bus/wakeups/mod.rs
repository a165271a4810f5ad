mod back;
mod builder;
mod kept;
mod listen;
mod pump;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::back::PutBack;
pub use self::builder::WakeupsBuilder;
use self::pump::{Ends, Options, Pump};
use super::carried::{Carried, Carry};
use super::message::Wakeup;
use super::{BusError, Result, SharedBus};
use crate::panics::with_quiet_waker;

/// The wakeups of all sessions, for a host that runs them.
///
/// Every process that runs sessions has one of these, AgentScope's own workers included: each wakeup goes to one of
/// them. What to do with one is in the documentation of [`Inbox`](super::Inbox), with an example.
///
/// # What comes when
///
/// Nothing is taken from the shared queue unless [`recv`](Self::recv) waits for something. Then one
/// [batch](WakeupsBuilder::batch) is taken, and handed out one by one; what is left when `recv` was
/// not called for longer than the longest [pause](WakeupsBuilder::backoff) goes back to the queue, where other processes
/// find it.
///
/// A session whose [run lock](super::keys::session_lock) is held is busy. Its wakeups are kept here, and the lock is
/// looked at again after 100 ms, 200 ms and so on up to 5 s. The lock decides, and not the flag of the inbox's consumer,
/// because a run takes its flag down before it gives up its lock.
///
/// A session that was woken is left alone for the first pause, so that its runner has the time to take the lock.
/// Wakeups of one session keep their order. Those of kind `wake` say no more than that something is in the inbox, so
/// that one of them stands for all that wait and are the same. Wakeups that carry something are each handed out.
///
/// At most [`max_kept`](WakeupsBuilder::max_kept) wakeups are kept. When there are so many, the queue is looked
/// through at the pace of the longest pause, a batch at a time; those of busy sessions go to its end.
///
/// Entries that cannot be read are logged and skipped, as are `resume` and `message` without an object as input.
///
/// # When the bus fails
///
/// Nothing ends. Calls are tried again, after 100 ms at first and 10 s at most, and one without an answer counts as
/// failed after 30 s. A subscription that ends is made again. Signals are only a hint: the queue is read at the
/// start, after each signal, when signals may have been lost, and every 30 s.
///
/// # What can be lost
///
/// A drained entry is in no other place. When the process dies, the wakeups that it had taken and not handed out
/// are lost, one batch and those that were kept at most, as with AgentScope. The results that they were about are
/// still in their inboxes, and are read on the session's next run, whatever wakes it.
///
/// Each end in better order puts them back: [`close`](Self::close) does, and so does dropping, in the background, on
/// whatever runtime is alive. A push whose answer was lost is repeated, so that a wakeup may come twice then, rather than
/// not at all.
///
/// # Runtimes
///
/// When the runtime that this was started on ends, it goes on on one that [`recv`](Self::recv) is called on, with all that
/// it has kept. A call to the bus that is under way at that moment is lost; on a shared bus that may be one batch.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use tower_offload::bus::{Delivery, MemoryBus, SharedBus, Wakeups};
/// use tower_offload::{MessageBus, TaskMeta};
///
/// let bus: SharedBus = Arc::new(MemoryBus::new());
/// let mut wakeups = Wakeups::start(Arc::clone(&bus));
///
/// let meta = TaskMeta::new("alice", "report").with_session("s1").with_agent("writer");
/// bus.deliver(&Delivery::new("task 1", &meta, r#"{"type": "hint", "hint": "done"}"#.to_owned())).await?;
///
/// let wakeup = wakeups.recv().await.expect("the runtime lives");
/// assert_eq!((wakeup.session_id.as_str(), wakeup.agent_id.as_str()), ("s1", "writer"));
///
/// // It cannot run now: it comes again a little later.
/// wakeups.retry(wakeup);
/// assert_eq!(wakeups.recv().await.expect("the runtime lives").session_id, "s1");
///
/// wakeups.close().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it puts back what it has taken"]
pub struct Wakeups {
    /// Whether one was asked for that did not come yet.
    asked: bool,
    asks: Arc<Notify>,
    out: mpsc::Receiver<Wakeup>,
    closing: CancellationToken,
    handle: WakeupsHandle,
    host: Carried<Host>,
}

/// What runs in the background.
struct Host {
    pump: Pump,
    bus: SharedBus,
    signal: Arc<Notify>,
}

impl Carry for Host {
    type Output = Result<()>;

    async fn run(&mut self) -> Result<()> {
        tokio::select! {
            done = self.pump.run() => done,
            never = listen::listen(&self.bus, &self.signal) => match never {},
        }
    }
}

impl Wakeups {
    /// With the default limits and pauses; see [`WakeupsBuilder::start`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(bus: SharedBus) -> Self {
        Self::builder(bus).start()
    }

    /// Sets limits and pauses.
    pub fn builder(bus: SharedBus) -> WakeupsBuilder {
        WakeupsBuilder::new(bus)
    }

    fn new(bus: SharedBus, options: Options) -> Self {
        let runtime = Handle::current();
        let (asks, signal, closing) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
        let (to_consumer, out) = mpsc::channel(1);
        // Unbounded, but it holds no more than was handed out and given back before the pump came to it.
        let (to_pump, returned) = mpsc::unbounded_channel();
        let ends = Ends {
            asked: Arc::clone(&asks),
            out: to_consumer,
            returned,
            closing: closing.clone(),
            signal: Arc::clone(&signal),
        };
        let pump = Pump::new(Arc::clone(&bus), options, ends);
        let host = Carried::new(Host { pump, bus: Arc::clone(&bus), signal });
        host.poke();
        let handle = WakeupsHandle { bus, returns: to_pump, runtime };
        Self { asked: false, asks, out, closing, handle, host }
    }

    /// The next wakeup whose session is not busy. `None` only when no runtime is left: neither the one that this was
    /// started on, nor another one that it was called on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the returned future is dropped: the wakeup that it would have returned comes with the
    /// next call, or goes back to the queue.
    pub async fn recv(&mut self) -> Option<Wakeup> {
        if !self.asked {
            self.asks.notify_one();
            self.asked = true;
        }
        while self.host.poke() {
            let wakeup = async {
                tokio::select! {
                    biased;
                    wakeup = self.out.recv() => Some(wakeup),
                    () = self.host.unattended() => None,
                }
            };
            if let Some(wakeup) = with_quiet_waker(wakeup).await {
                self.asked = false;
                return wakeup;
            }
        }
        None
    }

    /// Takes back a wakeup whose session cannot run now: another process got the lock first, or there is no room for
    /// another run. The wakeup comes again, here or in another process, after a pause that grows each time.
    pub fn retry(&self, wakeup: Wakeup) {
        self.handle.retry(wakeup);
    }

    /// For those who do something with a wakeup while the next one is awaited.
    #[must_use]
    pub fn handle(&self) -> WakeupsHandle {
        self.handle.clone()
    }

    /// Stops, and puts what was taken and not handed out back into the queue.
    ///
    /// A future that is dropped before its end lets this go on in the background.
    ///
    /// # Errors
    ///
    /// The bus had trouble for a minute, and some wakeups are lost.
    pub async fn close(mut self) -> Result<()> {
        self.stop();
        let ended = with_quiet_waker(self.host.ended()).await;
        ended.unwrap_or_else(|| Err(BusError::new("put wakeups back", "no runtime is left")))
    }

    /// Tells the pump to put back what it has, and what it has handed over and `recv` has not returned.
    fn stop(&mut self) {
        self.out.close();
        while let Ok(wakeup) = self.out.try_recv() {
            self.handle.retry(wakeup);
        }
        self.closing.cancel();
        // Its runtime may have ended: then it goes on, and ends, on this one.
        self.host.poke();
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups").field("bus", &self.handle.bus).finish_non_exhaustive()
    }
}

/// Gives wakeups back to their [`Wakeups`], from anywhere. Cheap to clone.
#[derive(Clone)]
pub struct WakeupsHandle {
    bus: SharedBus,
    returns: mpsc::UnboundedSender<Wakeup>,
    runtime: Handle,
}

impl WakeupsHandle {
    /// As [`Wakeups::retry`]. When the [`Wakeups`] is gone, the wakeup goes back to the queue in the background.
    pub fn retry(&self, wakeup: Wakeup) {
        let Err(mpsc::error::SendError(wakeup)) = self.returns.send(wakeup) else { return };
        Carried::new(PutBack::new(wakeup, Arc::clone(&self.bus))).poke_on(&self.runtime);
    }
}

impl fmt::Debug for WakeupsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeupsHandle").field("bus", &self.bus).finish_non_exhaustive()
    }
}
