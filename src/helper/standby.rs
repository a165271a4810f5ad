use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::carrier::Carrier;
use super::{Inner, State};

/// Looks at a loop from another runtime than the one that carries it.
pub(super) struct Standby {
    helper: Weak<Inner>,
    runtime: Handle,
    /// Whether its runtime is on that list.
    is_listed: bool,
}

/// What a standby has seen of a loop.
pub(super) struct Seen {
    carrier: Arc<Carrier>,
    polls: u64,
    is_woken: bool,
}

impl Standby {
    /// For a runtime that is on the list of the standbys.
    pub(super) const fn new(helper: Weak<Inner>, runtime: Handle) -> Self {
        Self { helper, runtime, is_listed: true }
    }

    pub(super) async fn run(mut self, period: Duration) {
        let mut seen = None;
        loop {
            seen = match self.look(seen) {
                Look::Again(seen) => seen,
                Look::Over => return,
            };
            sleep(period).await;
        }
    }

    /// Takes the loop over if it was not polled since the last look, although it was woken then. A loop that was not polled
    /// between two looks is woken: it may have nothing to do.
    pub(super) fn look(&mut self, before: Option<Seen>) -> Look {
        let Some(helper) = self.helper.upgrade() else { return Look::Over };
        let carrier = {
            let mut state = helper.state();
            let Some(carrier) = &state.carrier else {
                self.unlist(&mut state);
                return Look::Over;
            };
            Arc::clone(carrier)
        };
        let polls = carrier.polls();
        let is_here = carrier.runtime().id() == self.runtime.id();
        let is_woken = match before {
            Some(seen) if !is_here && seen.polls == polls && Arc::ptr_eq(&seen.carrier, &carrier) => {
                if seen.is_woken {
                    Inner::take_over(&helper, &carrier, &self.runtime);
                    return Look::Again(None);
                }
                carrier.wake();
                true
            }
            _ => false,
        };
        Look::Again(Some(Seen { carrier, polls, is_woken }))
    }

    fn unlist(&mut self, state: &mut State) {
        self.is_listed = false;
        state.standbys.retain(|id| *id != self.runtime.id());
    }
}

/// What a standby does next.
pub(super) enum Look {
    Again(Option<Seen>),
    /// The loop does not run.
    Over,
}

impl Drop for Standby {
    /// Its runtime has ended, or the loop has.
    fn drop(&mut self) {
        if self.is_listed
            && let Some(helper) = self.helper.upgrade()
        {
            self.unlist(&mut helper.state());
        }
    }
}
