mod options;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::options::LeaseOptions;
use super::{BusError, Lock, Result};
use crate::helper::{Helper, Runtimes};
use crate::log_limit::LogLimit;
use crate::panics;

/// Between two attempts to take a lock that is held.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Between two renewals at least, however short the lease.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(1);

/// How often other runtimes look whether the lock is still renewed where it is.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// Locks that wait, renew and release by themselves, on any bus.
pub trait LockExt: Lock + 'static {
    /// Takes the lock, waiting until its holder gives it back, and keeps it until the [`Lease`] is released, dropped or
    /// lost.
    ///
    /// A call that waits tries again, after 10 ms at first and 100 ms at most. There is no order among those that wait.
    ///
    /// # Errors
    ///
    /// Another holder had the lock during all of [`LeaseOptions::max_wait`], the bus had trouble for that long, or
    /// there is no tokio runtime around the call.
    ///
    /// # Panics
    ///
    /// As all that waits: when the runtime was built without `enable_time`.
    ///
    /// # Dropping
    ///
    /// A future that is dropped while it waits leaves no lock behind: an attempt whose answer did not come is taken
    /// back in the background.
    ///
    /// # Example
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use tower_offload::MemoryBus;
    /// use tower_offload::bus::{LeaseOptions, Lock, LockExt, SharedBus};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_offload::bus::BusError> {
    /// let bus: SharedBus = Arc::new(MemoryBus::new());
    ///
    /// let lease = bus.lock("inbox:lock", LeaseOptions::new()).await?;
    /// tokio::select! {
    ///     () = lease.lost() => println!("another process may have it now: stop"),
    ///     () = async { /* what only one may do at a time */ } => {}
    /// }
    /// assert!(lease.release().await?);
    /// assert!(!bus.is_locked("inbox:lock").await?);
    /// # Ok(())
    /// # }
    /// ```
    fn lock(
        self: &Arc<Self>,
        key: &str,
        options: LeaseOptions,
    ) -> impl Future<Output = Result<Lease<Self>>> + Send;
}

impl<B: Lock + ?Sized + 'static> LockExt for B {
    async fn lock(self: &Arc<Self>, key: &str, options: LeaseOptions) -> Result<Lease<Self>> {
        let LeaseOptions { ttl, max_wait } = options;
        let mut claim = Claim::new(Arc::clone(self), key)?;
        let give_up = Instant::now().checked_add(max_wait);
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = Instant::now();
            let trouble = match claim.attempt(ttl).await {
                Ok(true) => return Ok(Lease::new(claim, ttl, asked)),
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let left = give_up.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let taken = || BusError::new("take a lock", format!("others held it for {max_wait:?}"));
                return Err(trouble.unwrap_or_else(taken));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A lock that is held, and renewed at a third of its time to live.
///
/// Dropping it gives the lock back in the background, if the runtime that it was taken in still runs; if not, the
/// lock ends with its time to live. [`Lease::release`] does it now and says whether the lock was still held.
///
/// A lease is a promise about time: a holder that is stopped for longer than the time to live finds out only
/// afterwards that others came in between.
#[must_use = "a lease that is dropped gives the lock back"]
pub struct Lease<B: Lock + ?Sized + 'static = dyn super::MessageBus> {
    renewal: Arc<Renewal<B>>,
    runtimes: Arc<Runtimes>,
    /// Renews the lock until this is dropped.
    helper: Helper,
    claim: Claim<B>,
}

impl<B: Lock + ?Sized + 'static> Lease<B> {
    fn new(claim: Claim<B>, ttl: Duration, asked: Instant) -> Self {
        let renewal = Arc::new(Renewal {
            holder: Arc::clone(&claim.holder),
            ttl,
            asked: Mutex::new(asked),
            lost: CancellationToken::new(),
        });
        let runtimes = Arc::new(Runtimes::new(None));
        runtimes.remember(&claim.runtime);
        let helper = Helper::new(Arc::clone(&runtimes), (ttl / 8).clamp(SHORTEST_PERIOD, LONGEST_PERIOD), {
            let renewal = Arc::clone(&renewal);
            move || {
                let renewal = Arc::clone(&renewal);
                (!renewal.lost.is_cancelled()).then_some(async move { renewal.run().await })
            }
        });
        helper.start();
        Self { renewal, runtimes, helper, claim }
    }
}

impl<B: Lock + ?Sized> Lease<B> {
    /// The key of the lock.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.claim.holder.key
    }

    /// Whether another holder may have the lock: a renewal found that this holder has it no longer, or none succeeded
    /// for the time to live. Once it is lost it stays so.
    ///
    /// When the runtime that renews the lock ends or stands still, the renewal goes on on one that this is called on.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.keep_renewing();
        self.renewal.is_lost()
    }

    /// Waits until [`Lease::is_lost`]. May be dropped and called again.
    pub async fn lost(&self) {
        self.keep_renewing();
        self.renewal.lost.cancelled().await;
    }

    /// The runtime that the lock was taken in may have ended, or may stand still.
    fn keep_renewing(&self) {
        self.runtimes.remember_current();
        self.helper.start();
    }

    /// Gives the lock back, and says whether it was still held.
    ///
    /// # Errors
    ///
    /// The bus had trouble. Renewing has stopped and releasing is tried once more in the background, so that the
    /// lock ends with its time to live at the latest. The same goes for a call that is dropped before its end.
    pub async fn release(mut self) -> Result<bool> {
        self.helper.stop();
        let Holder { bus, key, token } = &*self.claim.holder;
        let held = bus.release(key, token).await?;
        self.claim.may_hold = false;
        Ok(held)
    }
}

impl<B: Lock + ?Sized> fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token, which is all that it takes to release the lock.
        f.debug_struct("Lease")
            .field("key", &self.key())
            .field("lost", &self.renewal.lost.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A holder, or a call that wants to be one.
struct Holder<B: Lock + ?Sized> {
    bus: Arc<B>,
    key: Box<str>,
    token: String,
}

/// A holder that takes care that no lock is left behind.
struct Claim<B: Lock + ?Sized + 'static> {
    holder: Arc<Holder<B>>,
    /// Where the lock was asked for: a lease may be dropped anywhere.
    runtime: Handle,
    /// Whether the bus may have given the lock to this holder, as far as its answers tell.
    may_hold: bool,
}

impl<B: Lock + ?Sized> Claim<B> {
    fn new(bus: Arc<B>, key: &str) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| BusError::new("take a lock", error))?;
        let token = Uuid::new_v4().simple().to_string();
        Ok(Self { holder: Arc::new(Holder { bus, key: key.into(), token }), runtime, may_hold: false })
    }

    async fn attempt(&mut self, ttl: Duration) -> Result<bool> {
        let Holder { bus, key, token } = &*self.holder;
        // The answer to the last attempt did not come, and it may have been a yes.
        if self.may_hold && bus.renew(key, token, ttl).await? {
            return Ok(true);
        }
        self.may_hold = true;
        self.may_hold = bus.try_acquire(key, token, ttl).await?;
        Ok(self.may_hold)
    }
}

impl<B: Lock + ?Sized> Drop for Claim<B> {
    fn drop(&mut self) {
        if !self.may_hold {
            return;
        }
        let holder = Arc::clone(&self.holder);
        // On a runtime that has shut down this does nothing.
        self.runtime.spawn(async move {
            if let Err(error) = holder.bus.release(&holder.key, &holder.token).await {
                panics::quietly(
                    || tracing::debug!(%error, "a lock was not released and ends with its time to live"),
                );
            }
        });
    }
}

/// The renewal of a lock. It outlives the runtime that carries it.
struct Renewal<B: Lock + ?Sized> {
    holder: Arc<Holder<B>>,
    ttl: Duration,
    /// When the last request was made that got the lock or renewed it. The lease is counted from there and not from the
    /// answer: on the bus it began somewhere in between.
    asked: Mutex<Instant>,
    lost: CancellationToken,
}

impl<B: Lock + ?Sized> Renewal<B> {
    fn asked(&self) -> Instant {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock is lost, also where no runtime is left that could have found out.
    fn is_lost(&self) -> bool {
        let is_over = self.asked().checked_add(self.ttl).is_some_and(|end| Instant::now() > end);
        if is_over {
            self.lose();
        }
        self.lost.is_cancelled()
    }

    fn lose(&self) {
        // It wakes all that wait, and a waker is user code.
        panics::quietly(|| self.lost.cancel());
    }

    /// Renews until that is no longer possible, and tells it.
    async fn run(&self) {
        let Holder { bus, key, token } = &*self.holder;
        let interval = (self.ttl / 3).max(SHORTEST_RENEWAL);
        // On another runtime the last renewal may have been long ago.
        let mut pause = interval.saturating_sub(self.asked().elapsed());
        loop {
            sleep(pause).await;
            if self.lost.is_cancelled() {
                return;
            }
            let now = Instant::now();
            let end = self.asked().checked_add(self.ttl);
            let answer = match end {
                Some(end) => timeout_at(end, bus.renew(key, token, self.ttl)).await.ok(),
                None => Some(bus.renew(key, token, self.ttl).await),
            };
            match answer {
                Some(Ok(true)) => {
                    *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    pause = interval;
                }
                Some(Ok(false)) | None => break,
                Some(Err(error)) => {
                    panics::quietly(|| tracing::debug!(%error, "a lock could not be renewed; trying again"));
                    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                    if left.is_some_and(|left| left.is_zero()) {
                        break;
                    }
                    pause = (interval / 4).max(SHORTEST_RENEWAL).min(left.unwrap_or(Duration::MAX));
                }
            }
        }
        self.lose();
        // All locks of a process are lost together when the bus cannot be reached.
        static LINES: LogLimit = LogLimit::new();
        LINES.write(|left_out| tracing::warn!(left_out, "a lock was lost before it was released"));
    }
}
