//! The calls that a thread runs, one inside another.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::token::{CallToken, CallTokens, OuterCall};
use crate::manager::shared::Shared;
use crate::manager::table::Place;

thread_local! {
    static ENTERED: Entered = const { Entered { depth: Cell::new(0), kept: Cell::new(0), task: Cell::new(0) } };
    /// The tokens of the outermost of these calls. Those of the others are [`CallToken::Unasked`].
    static TOKENS: RefCell<Vec<CallToken>> = const { RefCell::new(Vec::new()) };
}

/// The calls that the thread has entered. Separate words, because each call writes one of them only.
struct Entered {
    /// How many calls they are.
    depth: Cell<usize>,
    /// The length of [`TOKENS`].
    kept: Cell<usize>,
    /// The depth of the outermost call that is a background task, 0 if none is.
    task: Cell<usize>,
}

/// Whether the calling code runs as part of a background task already. A layer below another one then hands nothing
/// over: its caller is the task, which would take the placeholder for its result.
pub(crate) fn in_background() -> bool {
    ENTERED.with(|entered| entered.task.get()) > 0
}

/// The token that the innermost call gives to its work. `None` outside of all calls, and when the thread ends.
pub(super) fn innermost() -> Option<CancellationToken> {
    match ENTERED.with(|entered| entered.depth.get()) {
        0 => None,
        depth => Some(call_at(depth)?.into_given()),
    }
}

/// The call at this depth, whose token is made if there is none.
fn call_at(depth: usize) -> Option<OuterCall> {
    keep(depth)?;
    // A task is no part of what happens to poll it.
    let task = |tokens: &mut Vec<CallToken>| {
        tokens.iter().take(depth).rposition(|call| matches!(call, CallToken::Background { .. }))
    };
    let first = with_tokens(task)?.unwrap_or(0);
    let mut outer = None;
    for index in first..depth {
        outer = Some(token_at(index, outer.as_ref())?);
    }
    outer
}

/// The call at an index of [`TOKENS`], whose token is made if there is none.
fn token_at(index: usize, outer: Option<&OuterCall>) -> Option<OuterCall> {
    enum Kept {
        Call(OuterCall),
        Task(Arc<Shared>, Place),
    }
    let call = with_tokens(|tokens| {
        let call = tokens.get_mut(index)?;
        match call {
            CallToken::Unasked => *call = CallToken::Foreground(Box::new(CallTokens::new(outer))),
            CallToken::Dropped => *call = CallToken::Foreground(Box::new(CallTokens::cancelled())),
            CallToken::Foreground(_) | CallToken::Background { .. } => {}
        }
        match call {
            CallToken::Foreground(tokens) => Some(Kept::Call(tokens.as_outer())),
            CallToken::Background { shared, place, .. } => Some(Kept::Task(Arc::clone(shared), *place)),
            CallToken::Unasked | CallToken::Dropped => None,
        }
    })??;
    Some(match call {
        Kept::Call(call) => call,
        // Without a borrow: this may run wakers.
        Kept::Task(shared, place) => OuterCall::task(&shared, place),
    })
}

/// Makes room in [`TOKENS`] for all calls up to this depth.
fn keep(depth: usize) -> Option<()> {
    with_tokens(|tokens| tokens.resize_with(tokens.len().max(depth), CallToken::default))?;
    ENTERED.with(|entered| entered.kept.set(entered.kept.get().max(depth)));
    Some(())
}

/// No user code may run in `f`: it could come back here. `None` when the thread ends.
fn with_tokens<R>(f: impl FnOnce(&mut Vec<CallToken>) -> R) -> Option<R> {
    TOKENS.try_with(|tokens| tokens.try_borrow_mut().ok().map(|mut tokens| f(&mut tokens))).ok().flatten()
}

impl CallToken {
    /// Runs `run` as part of this call: there [`cancellation_token`](super::cancellation_token) finds the call's token.
    #[inline(always)]
    pub(in crate::manager) fn enter<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let outer = ENTERED.with(|entered| entered.depth.get());
        if !matches!(self, Self::Unasked) {
            self.push(outer);
        }
        ENTERED.with(|entered| entered.depth.set(outer + 1));
        // Leaves on unwinding too: after a panic the next call must not find this call's token.
        let _leave = Leave { call: self, outer };
        run()
    }

    /// Moves the token of a call that is about to be entered to [`TOKENS`]. It stays here when the thread ends.
    #[cold]
    fn push(&mut self, outer: usize) {
        if keep(outer).is_none() {
            return;
        }
        self.link(outer);
        let is_task = matches!(self, Self::Background { .. });
        let mut call = Some(mem::take(self));
        if with_tokens(|tokens| tokens.extend(call.take())).is_none() {
            *self = call.unwrap_or_default();
            return;
        }
        ENTERED.with(|entered| {
            entered.kept.set(outer + 1);
            if is_task && entered.task.get() == 0 {
                entered.task.set(outer + 1);
            }
        });
    }

    /// Links a call that has tokens to the call that polls it, the one at depth `outer`, and to no other.
    fn link(&mut self, outer: usize) {
        let Self::Foreground(tokens) = self else { return };
        let index = outer.checked_sub(1);
        // Nearly always it is linked to that one already.
        let id = index.and_then(|index| with_tokens(|all| all.get(index)?.id()).flatten());
        if tokens.is_linked_to(id) && (id.is_some() || index.is_none()) {
            return;
        }
        tokens.unlink();
        if index.is_some()
            && let Some(outer) = call_at(outer)
        {
            tokens.link_to(&outer);
        }
    }
}

/// Leaves a call that was entered.
struct Leave<'a> {
    call: &'a mut CallToken,
    outer: usize,
}

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        let kept = ENTERED.with(|entered| {
            entered.depth.set(self.outer);
            entered.kept.get()
        });
        if kept > self.outer {
            self.pop();
        }
    }
}

impl Leave<'_> {
    /// Moves the token back to its call.
    #[cold]
    fn pop(&mut self) {
        ENTERED.with(|entered| {
            entered.kept.set(self.outer);
            if entered.task.get() > self.outer {
                entered.task.set(0);
            }
        });
        if let Some(Some(call)) = with_tokens(Vec::pop) {
            *self.call = call;
        }
    }
}
