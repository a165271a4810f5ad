//! How running work finds its cancellation token, before and after it moves to the background.
//!
//! The tokens of calls that run inside one another are a tree: the token of a call is cancelled with that of the task
//! that the call is a part of, however deep, and whether the call is polled or not. A token of the tree is made when it is
//! asked for, and so are those above it. A call that no code asks about costs a counter.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::task::coop::unconstrained;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::shared::Shared;
use super::table::Place;
use crate::panics;
use crate::task::TaskId;

thread_local! {
    static ENTERED: Cell<Entered> = const { Cell::new(Entered { depth: 0, kept: 0, in_background: false }) };
    /// The outermost calls of those that the thread has entered. The others, further in, have nothing to keep.
    static KEPT: RefCell<Vec<CallToken>> = const { RefCell::new(Vec::new()) };
}

/// The calls that the thread runs, one inside another.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Entered {
    /// How many they are. Each takes many bytes of the stack, so that the number fits.
    depth: u16,
    /// How many of them are in [`KEPT`].
    kept: u16,
    /// One of them is a background task.
    in_background: bool,
}

/// The token that is cancelled when the work that asks should stop.
///
/// Ask inside of a call that went through [`OffloadLayer`](crate::OffloadLayer), or of a future that was given to
/// [`TaskManager::register`](super::TaskManager::register). The token is the same before and after the call moves
/// to the background, so it can be fetched at the start and handed to whatever the work starts. It is cancelled
/// when the task is asked to stop, reaches its run-time limit, or is shut down, and when its caller leaves before
/// the deadline. After the grace time of the manager the future is dropped, whether it watched the token or not.
///
/// Elsewhere, and in code that the work spawned as a tokio task of its own, the answer is a token that nobody
/// cancels: fetch it before spawning. Cancelling the token that you got tells what you handed it to, and nobody
/// else.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_offload::task::{Outcome, Scope};
/// use tower_offload::{TaskManager, TaskMeta, cancellation_token};
///
/// let manager = TaskManager::builder().cancel_grace(std::time::Duration::from_secs(5)).build();
/// let task = manager.spawn(TaskMeta::new("alice", "import"), async {
///     cancellation_token().cancelled().await;
///     // ... close files, then say that it stopped because it was asked to.
///     Outcome::Cancelled
/// })?;
/// let scope = Scope::user("alice");
/// manager.stop(&scope, task.id).await?;
/// let task = manager.wait(&scope, task.id).await?.expect("it is retained");
/// assert_eq!(task.status.as_str(), "cancelled");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn cancellation_token() -> CancellationToken {
    match ENTERED.get().depth {
        0 => CancellationToken::new(),
        depth => innermost(depth).unwrap_or_default(),
    }
}

/// Whether the code that asks runs as part of a background task already. A layer below another one then hands
/// nothing over: its caller is the task, and a placeholder would be mistaken for the task's result.
pub(crate) fn in_background() -> bool {
    ENTERED.get().in_background
}

/// A token for the work of the innermost call. `None` when the thread is ending.
fn innermost(depth: u16) -> Option<CancellationToken> {
    found(depth).map(|call| call.given.child_token())
}

/// The innermost of the outer `depth` calls, with a token.
fn found(depth: u16) -> Option<Found> {
    keep(depth)?;
    let depth = usize::from(depth);
    // A task is no part of what happens to poll it.
    let task = |kept: &mut Vec<CallToken>| {
        kept.iter().take(depth).rposition(|call| matches!(call, CallToken::Background { .. }))
    };
    let first = with_kept(task)?.unwrap_or(0);
    let mut outer = None;
    for at in first..depth {
        outer = Some(token_at(at, outer.as_ref())?);
    }
    outer
}

/// The token of an entered call, made if there is none.
fn token_at(at: usize, outer: Option<&Found>) -> Option<Found> {
    enum Is {
        Found(Found),
        Task(Arc<Shared>, Place),
    }
    let call = with_kept(|kept| {
        let call = kept.get_mut(at)?;
        if let CallToken::Dropped = call {
            let made = Made::new(None);
            // New, so that nothing waits for it.
            made.given.cancel();
            *call = CallToken::Foreground(Some(Box::new(made)));
        }
        Some(match call {
            CallToken::Dropped => return None,
            CallToken::Background { shared, place, .. } => Is::Task(Arc::clone(shared), *place),
            CallToken::Foreground(made) => {
                Is::Found(made.get_or_insert_with(|| Box::new(Made::new(outer))).found())
            }
        })
    })??;
    Some(match call {
        Is::Found(found) => found,
        // Without a borrow: this may run wakers.
        Is::Task(shared, place) => {
            let token = shared.token_of(place);
            Found { name: Name::Task(place.id), given: token.clone(), stop: token }
        }
    })
}

/// Makes room for the calls that had nothing to keep so far.
fn keep(depth: u16) -> Option<()> {
    with_kept(|kept| kept.resize_with(kept.len().max(depth.into()), CallToken::default))?;
    let entered = ENTERED.get();
    ENTERED.set(Entered { kept: entered.kept.max(depth), ..entered });
    Some(())
}

/// No user code may run in `f`: it could come back here.
fn with_kept<R>(f: impl FnOnce(&mut Vec<CallToken>) -> R) -> Option<R> {
    KEPT.try_with(|kept| kept.try_borrow_mut().ok().map(|mut kept| f(&mut kept))).ok().flatten()
}

/// The token of one call.
#[derive(Debug)]
pub(super) enum CallToken {
    /// `None`: no code has asked for it.
    Foreground(Option<Box<Made>>),
    /// No code had asked for it when the call was dropped.
    Dropped,
    /// The token is in the table, where a stop finds it.
    Background {
        shared: Arc<Shared>,
        place: Place,
        /// The work has been told.
        stopping: bool,
    },
}

/// The token of a call in the foreground.
pub(super) struct Made {
    name: u64,
    /// Cancelled when the task is to stop that the call becomes or is part of. The calls inside listen to it.
    stop: CancellationToken,
    /// Cancelled when the call is dropped, too. The work gets children of it. The calls inside do not listen to it: they
    /// are dropped with the call, or handed over.
    given: CancellationToken,
    /// Cancels `stop` with the token of the call around, until this call becomes a task of its own.
    link: Option<Link>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Call(u64),
    Task(TaskId),
}

/// What the calls inside of a call need to know of it.
struct Found {
    name: Name,
    stop: CancellationToken,
    given: CancellationToken,
}

impl Made {
    fn new(outer: Option<&Found>) -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let stop = CancellationToken::new();
        let link = outer.map(|outer| Link::new(outer, &stop));
        Self { name: NAMES.fetch_add(1, Ordering::Relaxed), given: stop.child_token(), stop, link }
    }

    fn found(&self) -> Found {
        Found { name: Name::Call(self.name), stop: self.stop.clone(), given: self.given.clone() }
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// Cancels one token with another one, like a child's. Unlike a child's it can be dropped.
struct Link {
    outer: Name,
    _waits: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Link {
    fn new(outer: &Found, stop: &CancellationToken) -> Self {
        let mut waits = Box::pin(outer.stop.clone().cancelled_owned());
        let ends = Ends { outer: outer.stop.clone(), stop: stop.clone() };
        let waker = Waker::from(Arc::new(ends));
        // Without a budget: a task that has used up its own would be woken at once, and nothing would be waited for.
        let mut waiting = pin!(unconstrained(waits.as_mut()));
        if waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            cancel(stop);
        }
        Self { outer: outer.name, _waits: waits }
    }
}

/// The waker of a [`Link`].
struct Ends {
    outer: CancellationToken,
    stop: CancellationToken,
}

impl Wake for Ends {
    fn wake(self: Arc<Self>) {
        if self.outer.is_cancelled() {
            cancel(&self.stop);
        }
    }
}

/// Cancels a token. This runs the wakers of all that wait for it, which may panic.
fn cancel(token: &CancellationToken) {
    panics::quietly(|| token.cancel());
}

impl Default for CallToken {
    fn default() -> Self {
        Self::Foreground(None)
    }
}

impl CallToken {
    /// The token that a stop of the task has to cancel, if there is one already.
    pub(super) fn made(&self) -> Option<CancellationToken> {
        match self {
            Self::Foreground(made) => made.as_ref().map(|made| made.stop.clone()),
            Self::Background { .. } | Self::Dropped => None,
        }
    }

    /// Tells the work that it is about to be dropped. What asks for a token from now on gets a cancelled one.
    pub(super) fn cancel(&mut self) {
        match self {
            Self::Foreground(Some(made)) => cancel(&made.given),
            Self::Foreground(None) | Self::Dropped => *self = Self::Dropped,
            // The table remembers it.
            Self::Background { shared, place, stopping: true } => shared.cancel_token_of(*place),
            Self::Background { shared, place, .. } => cancel(&shared.token_of(*place)),
        }
    }

    /// Runs `poll` with this as the token that [`cancellation_token`] finds.
    #[inline]
    pub(super) fn enter<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let outer = ENTERED.get();
        if matches!(self, Self::Foreground(None)) {
            ENTERED.set(Entered { depth: outer.depth + 1, ..outer });
        } else if !self.keep_self(outer) {
            // The thread is ending.
            return poll();
        }
        // Restores on unwinding too: a panic must not leave one call's token to the next.
        let _leave = Leave { call: self, outer };
        poll()
    }

    /// Enters a call that has a token.
    #[cold]
    fn keep_self(&mut self, outer: Entered) -> bool {
        if keep(outer.depth).is_none() {
            return false;
        }
        self.link_to(outer.depth.checked_sub(1));
        let in_background = outer.in_background || matches!(self, Self::Background { .. });
        let mut call = Some(mem::take(self));
        if with_kept(|kept| kept.extend(call.take())).is_none() {
            *self = call.unwrap_or_default();
            return false;
        }
        let depth = outer.depth + 1;
        ENTERED.set(Entered { depth, kept: depth, in_background });
        true
    }

    /// A call that has a token is a part of the call that polls it, and of no other.
    fn link_to(&mut self, outer: Option<u16>) {
        let Self::Foreground(Some(made)) = self else { return };
        // Nearly always it is the one that it is linked to.
        let name = |kept: &mut Vec<Self>| match kept.get(usize::from(outer?))? {
            Self::Foreground(outer) => outer.as_ref().map(|outer| Name::Call(outer.name)),
            Self::Background { place, .. } => Some(Name::Task(place.id)),
            Self::Dropped => None,
        };
        let name = with_kept(name).flatten();
        if made.link.as_ref().map(|link| link.outer) == name && (name.is_some() || outer.is_none()) {
            return;
        }
        // Without a borrow: to drop a link drops a token.
        made.link = None;
        let outer = outer.and_then(|outer| found(outer + 1));
        made.link = outer.map(|outer| Link::new(&outer, &made.stop));
    }
}

/// Leaves a call that was entered.
struct Leave<'a> {
    call: &'a mut CallToken,
    outer: Entered,
}

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        let kept = ENTERED.get().kept;
        if kept > self.outer.depth {
            self.take_back();
        } else {
            ENTERED.set(Entered { kept, ..self.outer });
        }
    }
}

impl Leave<'_> {
    #[cold]
    fn take_back(&mut self) {
        ENTERED.set(Entered { kept: self.outer.depth, ..self.outer });
        if let Some(Some(call)) = with_kept(Vec::pop) {
            *self.call = call;
        }
    }
}
