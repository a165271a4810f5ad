//! How running work reaches its cancellation token, before and after it moves to the background.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::table::Place;

thread_local! {
    /// What runs now. Beside the call itself, because most calls have nothing to keep there, and this is a byte.
    static RUNNING: Cell<Running> = const { Cell::new(Running::Nothing) };
    static CURRENT: Cell<Option<CallToken>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    /// Nothing of ours.
    Nothing,
    /// A call in the foreground whose token nobody has asked for.
    Plain,
    /// A call that is in `CURRENT`.
    Kept,
    /// The same, and it is a background task or within one, however far.
    Within,
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
/// let task = manager.register(TaskMeta::new("alice", "import"), async {
///     cancellation_token().cancelled().await;
///     // ... close files, then say that it stopped because it was asked to.
///     Outcome::Cancelled
/// })?;
/// let scope = Scope::user("alice");
/// manager.stop(&scope, &task.id.to_string()).await?;
/// let task = manager.wait(&scope, task.id).await?.expect("it is retained");
/// assert_eq!(task.status.as_str(), "cancelled");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn cancellation_token() -> CancellationToken {
    let ours = match running() {
        Running::Nothing => None,
        Running::Plain => {
            // What `enter` finds when it comes back.
            let token = CancellationToken::new();
            let call = CallToken::Foreground(Some(token.clone()));
            let kept = CURRENT.try_with(|current| current.set(Some(call)));
            kept.ok().map(|()| {
                RUNNING.with(|running| running.set(Running::Kept));
                token
            })
        }
        Running::Kept | Running::Within => CURRENT.try_with(own_token).ok().flatten(),
    };
    ours.map_or_else(CancellationToken::new, |token| token.child_token())
}

fn running() -> Running {
    RUNNING.with(Cell::get)
}

/// The token of the call that is kept. Whatever runs wakers runs when the place is filled again: they may ask too.
fn own_token(current: &Cell<Option<CallToken>>) -> Option<CancellationToken> {
    let mut call = current.take()?;
    let token = match &mut call {
        CallToken::Foreground(token) => Ok(token.get_or_insert_default().clone()),
        CallToken::Background { shared, place, .. } => Err((Arc::clone(shared), *place)),
    };
    current.set(Some(call));
    Some(token.unwrap_or_else(|(shared, place)| shared.token_of(place)))
}

/// Whether the code that asks runs as part of a background task already. A layer below another one then hands
/// nothing over: its caller is the task, and a placeholder would be mistaken for the task's result.
pub(crate) fn in_background() -> bool {
    running() == Running::Within
}

/// The token of one call. It is made when somebody asks, so that a call that nobody asks about pays nothing.
#[derive(Debug)]
pub(super) enum CallToken {
    Foreground(Option<CancellationToken>),
    /// The table has the token, where whoever stops the task finds it.
    Background {
        shared: Arc<Shared>,
        place: Place,
        /// The work has been told.
        stopping: bool,
    },
}

impl Default for CallToken {
    fn default() -> Self {
        Self::Foreground(None)
    }
}

impl CallToken {
    /// The token of a call that somebody has asked about.
    pub(super) fn made(&self) -> Option<CancellationToken> {
        match self {
            Self::Foreground(token) => token.clone(),
            Self::Background { .. } => None,
        }
    }

    /// Tells whoever asked for the token that the call was abandoned.
    pub(super) fn cancel(&self) {
        match self {
            Self::Foreground(Some(token)) => token.cancel(),
            Self::Foreground(None) => {}
            Self::Background { shared, place, .. } => shared.cancel_token_of(*place),
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Self::Foreground(token) => token.as_ref().is_some_and(CancellationToken::is_cancelled),
            Self::Background { stopping, .. } => *stopping,
        }
    }

    /// Runs `poll` with this as the token that [`cancellation_token`] finds.
    pub(super) fn enter<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        if !matches!(self, Self::Foreground(None)) || matches!(running(), Running::Kept | Running::Within) {
            return self.enter_kept(poll);
        }
        // Restores on unwinding too: a panic must not leave one call's token to the next.
        struct Restore<'a> {
            call: &'a mut CallToken,
            outer: Running,
        }
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                if RUNNING.replace(self.outer) == Running::Kept {
                    // Somebody has asked.
                    *self.call = CURRENT.try_with(Cell::take).ok().flatten().unwrap_or_default();
                }
            }
        }
        let _restore = Restore { call: self, outer: RUNNING.replace(Running::Plain) };
        poll()
    }

    /// The same for what has a token, or is within what may have one.
    fn enter_kept<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        struct Restore<'a> {
            call: &'a mut CallToken,
            outer: Option<CallToken>,
            running: Running,
        }
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                let inner = CURRENT.try_with(|current| current.replace(self.outer.take()));
                *self.call = inner.ok().flatten().unwrap_or_default();
                RUNNING.set(self.running);
            }
        }
        let within = matches!(self, Self::Background { .. }) || running() == Running::Within;
        let mut inner = Some(mem::take(self));
        let Ok(outer) = CURRENT.try_with(|current| current.replace(inner.take())) else {
            // The thread is ending, and has nobody left who could ask.
            *self = inner.unwrap_or_default();
            return poll();
        };
        let restore = Restore {
            call: self,
            outer,
            running: RUNNING.replace(if within { Running::Within } else { Running::Kept }),
        };
        // A call within a task is part of it until it becomes one of its own: what the task is told, it is told.
        // Made now if nobody has asked for it yet: who asks later has to find that it is cancelled.
        if restore.outer.as_ref().is_some_and(Self::is_cancelled)
            && let Ok(Some(token)) = CURRENT.try_with(own_token)
        {
            token.cancel();
        }
        poll()
    }
}
