use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::task::coop::unconstrained;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::manager::shared::Shared;
use crate::manager::table::Place;
use crate::panics;
use crate::task::TaskId;

/// The token of one call.
#[derive(Debug, Default)]
pub(in crate::manager) enum CallToken {
    /// The call is in the foreground, and no code has asked for its token.
    #[default]
    Unasked,
    Foreground(Box<CallTokens>),
    /// No code had asked for the token when the call was dropped.
    Dropped,
    /// The token is in the table, where a stop finds it.
    Background {
        shared: Arc<Shared>,
        place: Place,
        running: Running,
    },
}

/// What the worker knows of a task that runs.
#[derive(Debug, Default)]
pub(in crate::manager) struct Running {
    /// The worker has checked whether the task has to stop.
    pub(in crate::manager) looked: bool,
    /// How many stops of any tasks there had been at that time.
    pub(in crate::manager) stops: u32,
    pub(in crate::manager) stopping: Option<Stopping>,
    /// The token of the task is cancelled.
    pub(in crate::manager) is_cancelled: bool,
}

/// Why the task has to stop.
#[derive(Clone, Copy, Debug)]
pub(in crate::manager) enum Stopping {
    Asked,
    TimeLimit,
}

impl CallToken {
    /// The token that a stop of the task has to cancel, if it was made already.
    pub(in crate::manager) fn made(&self) -> Option<CancellationToken> {
        match self {
            Self::Foreground(tokens) => Some(tokens.stop.clone()),
            Self::Unasked | Self::Dropped | Self::Background { .. } => None,
        }
    }

    /// Cancels the token before the work is dropped. Code that asks for it afterwards gets a cancelled one.
    pub(in crate::manager) fn cancel(&mut self) {
        match self {
            Self::Unasked | Self::Dropped => *self = Self::Dropped,
            Self::Foreground(tokens) => cancel(&tokens.given),
            // The table keeps a token that is cancelled.
            Self::Background { shared, place, running: Running { is_cancelled: true, .. } } => {
                shared.cancel_token_of(*place);
            }
            Self::Background { shared, place, .. } => cancel(&shared.token_of(*place)),
        }
    }

    /// Which call this is. `None`: its tokens are not made.
    pub(super) fn id(&self) -> Option<CallId> {
        match self {
            Self::Foreground(tokens) => Some(tokens.id),
            Self::Background { place, .. } => Some(CallId::Task(place.id)),
            Self::Unasked | Self::Dropped => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallId {
    Call(u64),
    Task(TaskId),
}

/// The tokens of a call in the foreground.
pub(in crate::manager) struct CallTokens {
    id: CallId,
    /// Cancelled when the task has to stop that the call becomes or is part of. The calls inside are linked to it.
    stop: CancellationToken,
    /// Cancelled with `stop`, and when the call is dropped. The work gets children of it. The calls inside are not linked
    /// to it: they are dropped with the call, or are handed over.
    given: CancellationToken,
    /// Cancels `stop` with the token of the call around, until this call becomes a task of its own.
    link: Option<Link>,
}

/// What the calls inside of a call need to know of it.
pub(super) struct OuterCall {
    id: CallId,
    stop: CancellationToken,
    given: CancellationToken,
}

impl CallTokens {
    pub(super) fn new(outer: Option<&OuterCall>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let stop = CancellationToken::new();
        let link = outer.map(|outer| Link::new(outer, &stop));
        let id = CallId::Call(IDS.fetch_add(1, Ordering::Relaxed));
        Self { id, given: stop.child_token(), stop, link }
    }

    /// The tokens of a call that was dropped before code asked for them.
    pub(super) fn cancelled() -> Self {
        let tokens = Self::new(None);
        // New, so that nothing waits for it.
        tokens.given.cancel();
        tokens
    }

    pub(super) fn as_outer(&self) -> OuterCall {
        OuterCall { id: self.id, stop: self.stop.clone(), given: self.given.clone() }
    }

    /// Whether it is linked to this call; `None` is no call.
    pub(super) fn is_linked_to(&self, outer: Option<CallId>) -> bool {
        self.link.as_ref().map(|link| link.outer) == outer
    }

    /// Removes the link. This drops a token, so it must not run while the stack is borrowed.
    pub(super) fn unlink(&mut self) {
        self.link = None;
    }

    pub(super) fn link_to(&mut self, outer: &OuterCall) {
        self.link = Some(Link::new(outer, &self.stop));
    }
}

impl OuterCall {
    /// A background task, whose one token is in the table.
    pub(super) fn task(shared: &Arc<Shared>, place: Place) -> Self {
        let token = shared.token_of(place);
        Self { id: CallId::Task(place.id), given: token.clone(), stop: token }
    }

    /// The token of which the work gets children.
    pub(super) fn into_given(self) -> CancellationToken {
        self.given
    }
}

impl fmt::Debug for CallTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTokens").field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// Cancels one token with another one, as a child token is. Unlike a child token it can be unlinked.
struct Link {
    outer: CallId,
    _waits: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Link {
    fn new(outer: &OuterCall, stop: &CancellationToken) -> Self {
        let mut waits = Box::pin(outer.stop.clone().cancelled_owned());
        let waker = Waker::from(Arc::new(LinkWaker { outer: outer.stop.clone(), stop: stop.clone() }));
        // Without a budget: a task that has used up its own would be woken at once, and nothing would be waited for.
        let mut waiting = pin!(unconstrained(waits.as_mut()));
        if waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            cancel(stop);
        }
        Self { outer: outer.id, _waits: waits }
    }
}

/// The waker of a [`Link`].
struct LinkWaker {
    outer: CancellationToken,
    stop: CancellationToken,
}

impl Wake for LinkWaker {
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
