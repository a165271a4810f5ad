//! Background loops that survive the runtimes that carry them.

mod carrier;
mod runtimes;
mod standby;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};

use self::carrier::{Carrier, Run};
use self::standby::Standby;
use crate::panics;

pub(crate) use self::runtimes::Runtimes;

/// How long a loop that panicked pauses before it goes on. The pause doubles with each panic, up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A loop that runs as a task of a runtime of its callers while there is something to do.
///
/// Each entry point that needs the loop [starts](Self::start) it, which does nothing while it runs. The loop goes on when
/// the runtime that carries it
///
/// - ends: on another one that is alive, or with the next start if there is none;
/// - stands still, such as a `current_thread` runtime between two calls of `block_on`: on another one that a start was
///   called on.
///
/// Each time its future is dropped first, and a new one is made then: a loop keeps its state outside of its future. A loop
/// that panics goes on after a pause.
///
/// Dropping the helper stops the loop.
pub(crate) struct Helper(Arc<Inner>);

struct Inner {
    runtimes: Arc<Runtimes>,
    /// How often standbys look at the loop.
    period: Duration,
    /// Makes the loop; `None` when there is nothing left to help.
    make: Box<dyn Fn() -> Option<Run> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What carries the loop; `None` while it does not run.
    carrier: Option<Arc<Carrier>>,
    is_stopped: bool,
    /// It was started while it ran. It may have been about to end, so that it runs once more then.
    again: bool,
    /// The runtimes that have a standby.
    standbys: Vec<Id>,
}

impl Helper {
    /// `make` makes the loop, and answers `None` if there is nothing to do any more. A runtime that does not poll the loop in
    /// three times the `period` stands still.
    pub(crate) fn new<F>(
        runtimes: Arc<Runtimes>,
        period: Duration,
        make: impl Fn() -> Option<F> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let make = Box::new(move || make().map(|run| Box::pin(run) as Run));
        Self(Arc::new(Inner { runtimes, period, make, state: Mutex::default() }))
    }

    /// Starts the loop, unless it runs. Returns whether it runs now: it does not if no runtime with timers is known.
    pub(crate) fn start(&self) -> bool {
        let here = {
            let mut state = self.0.state();
            if state.is_stopped {
                return false;
            }
            state.again = true;
            state.carrier.as_ref().map(|carrier| state.needs_standby(carrier))
        };
        match here {
            Some(here) => {
                if let Some(here) = here {
                    Inner::stand_by(&self.0, &here);
                }
                true
            }
            None => {
                let runtime = self.0.runtimes.for_helper();
                runtime.is_some_and(|runtime| Inner::start_on(&self.0, runtime, None))
            }
        }
    }

    /// Stops the loop where it waits next. It does not start again.
    pub(crate) fn stop(&self) {
        let carrier = {
            let mut state = self.0.state();
            state.is_stopped = true;
            state.carrier.take()
        };
        if let Some(carrier) = carrier {
            carrier.end();
        }
    }
}

impl State {
    /// Whether this carries the loop, or nothing does if it is `None`.
    fn is_carried_by(&self, carrier: Option<&Arc<Carrier>>) -> bool {
        self.carrier.as_ref().map(Arc::as_ptr) == carrier.map(Arc::as_ptr)
    }

    /// The current runtime, if it does not carry the loop and has no standby for it yet.
    fn needs_standby(&self, carrier: &Carrier) -> Option<Handle> {
        let here = Handle::try_current().ok()?;
        let id = here.id();
        (carrier.runtime().id() != id && !self.standbys.contains(&id)).then_some(here)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the loop on a runtime, unless another carrier than `before` has it. Returns whether it runs.
    fn start_on(this: &Arc<Self>, runtime: Handle, before: Option<&Arc<Carrier>>) -> bool {
        let carrier = Carrier::new(runtime);
        {
            let mut state = this.state();
            if state.is_stopped || !state.is_carried_by(before) {
                return state.carrier.is_some();
            }
            state.again = false;
            state.carrier = Some(Arc::clone(&carrier));
        }
        let Some(run) = (this.make)() else {
            this.ended(&carrier);
            return false;
        };
        let (helper, carried_by) = (Arc::downgrade(this), Arc::clone(&carrier));
        let on_end = move || {
            if let Some(helper) = helper.upgrade() {
                Self::runtime_ended(&helper, &carried_by);
            }
        };
        carrier.spawn(Box::pin(supervise(Arc::downgrade(this), run)), on_end);
        this.state().carrier.is_some()
    }

    fn runtime_ended(this: &Arc<Self>, carrier: &Arc<Carrier>) {
        match this.runtimes.after_end_of(carrier.runtime().id()) {
            Some(other) => drop(Self::start_on(this, other, Some(carrier))),
            None => this.ended(carrier),
        }
    }

    /// Notes that the loop does not run any more, if this is what carried it.
    fn ended(&self, carrier: &Arc<Carrier>) {
        let mut state = self.state();
        if state.is_carried_by(Some(carrier)) {
            state.carrier = None;
        }
    }

    /// The loop has ended. Returns whether it runs again because it was started meanwhile.
    fn runs_again(&self) -> bool {
        let mut state = self.state();
        let again = std::mem::take(&mut state.again) && !state.is_stopped;
        if !again {
            state.carrier = None;
        }
        again
    }

    /// Has a runtime look at the loop, which another runtime carries.
    fn stand_by(this: &Arc<Self>, runtime: &Handle) {
        if !this.runtimes.has_timers(runtime) {
            return;
        }
        let id = runtime.id();
        {
            let mut state = this.state();
            if state.is_stopped || state.standbys.contains(&id) {
                return;
            }
            state.standbys.push(id);
        }
        let standby = Standby::new(Arc::downgrade(this), runtime.clone());
        runtime.spawn(standby.run(this.period));
    }

    /// Moves the loop to a runtime that runs from one that stands still.
    fn take_over(this: &Arc<Self>, carrier: &Arc<Carrier>, here: &Handle) {
        // What the loop leaves behind is in order before it begins again.
        if carrier.take() && Self::start_on(this, here.clone(), Some(carrier)) {
            // The next runtime that stands still may be this one.
            Self::stand_by(this, carrier.runtime());
        }
    }
}

/// Runs the loop until there is nothing to do. A panic does not end it.
async fn supervise(helper: Weak<Inner>, first: Run) {
    let mut next = Some(first);
    let mut pause = FIRST_PAUSE;
    while let Some(mut run) = next {
        let begun = Instant::now();
        let done = panics::caught(Pin::new(&mut run)).await;
        panics::quietly(move || drop(run));
        if done.is_err() {
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let Some(helper) = helper.upgrade() else { return };
        if done.is_ok() && !helper.runs_again() {
            return;
        }
        next = (helper.make)();
        if next.is_none() {
            helper.state().carrier = None;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_running = self.0.state().carrier.is_some();
        f.debug_struct("Helper").field("is_running", &is_running).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    fn threads() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn one_thread() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A helper whose loop says on which runtime it runs, and then waits for ever.
    fn helper(runtimes: &Arc<Runtimes>) -> (Helper, mpsc::UnboundedReceiver<Id>) {
        let (says, hears) = mpsc::unbounded_channel();
        let make = move || {
            let says = says.clone();
            Some(async move {
                says.send(Handle::current().id()).unwrap();
                std::future::pending::<()>().await;
            })
        };
        (Helper::new(Arc::clone(runtimes), PERIOD, make), hears)
    }

    fn start_on(helper: &Helper, runtime: &Runtime) -> bool {
        let _entered = runtime.enter();
        helper.start()
    }

    #[test]
    fn a_loop_goes_on_on_another_runtime_when_its_own_ends() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, mut hears) = helper(&runtimes);
        assert!(!helper.start(), "there is no runtime");
        let (first, second) = (threads(), threads());
        for runtime in [&second, &first] {
            let _entered = runtime.enter();
            assert!(runtimes.for_tasks().is_some());
        }
        assert!(start_on(&helper, &first));
        assert!(start_on(&helper, &first), "it runs already");
        assert_eq!(hears.blocking_recv(), Some(first.handle().id()));
        drop(first);
        assert_eq!(hears.blocking_recv(), Some(second.handle().id()));
        drop(second);

        // With no runtime alive the next start begins it again.
        assert!(!helper.start());
        let third = threads();
        assert!(start_on(&helper, &third));
        assert_eq!(hears.blocking_recv(), Some(third.handle().id()));
        assert!(hears.try_recv().is_err(), "it runs once");
    }

    #[test]
    fn a_runtime_that_ends_while_a_panic_unwinds_has_ended_and_its_loop_has_not_panicked() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, mut hears) = helper(&runtimes);
        let (first, second) = (one_thread(), threads());
        let first_id = first.handle().id();
        assert!(start_on(&helper, &first));
        assert_eq!(first.block_on(hears.recv()), Some(first_id));
        runtimes.remember(second.handle());
        let unwound =
            catch_unwind(AssertUnwindSafe(move || first.block_on(async { panic!("in `block_on`") })));
        assert!(unwound.is_err());
        assert_eq!(hears.blocking_recv(), Some(second.handle().id()));
    }

    #[test]
    fn a_runtime_that_stands_still_loses_its_loop_to_one_that_runs() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, mut hears) = helper(&runtimes);
        let (first, second) = (one_thread(), one_thread());
        assert!(start_on(&helper, &first));
        assert_eq!(first.block_on(hears.recv()), Some(first.handle().id()));
        let next = second.block_on(async {
            assert!(helper.start());
            hears.recv().await
        });
        assert_eq!(next, Some(second.handle().id()));
        // And back, with no start there.
        assert_eq!(first.block_on(hears.recv()), Some(first.handle().id()));
        // A loop that was taken away has ended, and is no second one.
        drop(second);
        first.block_on(tokio::task::yield_now());
        assert!(hears.try_recv().is_err());
        assert!(helper.0.state().carrier.is_some());
    }

    #[test]
    fn a_loop_moves_when_it_was_woken_and_is_not_polled() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, mut hears) = helper(&runtimes);
        let (first, second) = (one_thread(), one_thread());
        assert!(start_on(&helper, &first));
        let mut standby = Standby::new(Arc::downgrade(&helper.0), second.handle().clone());
        let mut seen = None;
        let mut look = || match standby.look(seen.take()) {
            standby::Look::Again(next) => seen = next,
            standby::Look::Over => panic!("the loop runs"),
        };
        let place = || helper.0.state().carrier.as_ref().unwrap().runtime().id();
        look();
        for _ in 0..3 {
            // This wakes it: it may have had nothing to do.
            look();
            first.block_on(tokio::task::yield_now());
            look();
            assert_eq!(place(), first.handle().id());
        }
        look();
        look();
        assert_eq!(place(), second.handle().id());
        assert_eq!(
            second.block_on(async { (hears.recv().await, hears.recv().await) }).0,
            Some(first.handle().id())
        );
        // Where it is now it is not looked at.
        (0..5).for_each(|_| look());
        assert_eq!(place(), second.handle().id());
    }

    #[test]
    fn a_standby_ends_with_the_loop_or_with_its_runtime() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, _hears) = helper(&runtimes);
        let (first, second, third) = (one_thread(), one_thread(), one_thread());
        for runtime in [&first, &second, &third, &second] {
            assert!(start_on(&helper, runtime));
        }
        assert_eq!(helper.0.state().standbys, [second.handle().id(), third.handle().id()]);
        drop(third);
        assert_eq!(helper.0.state().standbys, [second.handle().id()]);
        helper.stop();
        second.block_on(tokio::task::yield_now());
        assert!(helper.0.state().standbys.is_empty());
    }

    #[test]
    fn a_helper_that_was_stopped_or_dropped_does_not_run() {
        let runtimes = Arc::new(Runtimes::new(None));
        let runtime = threads();
        let (helper, mut hears) = helper(&runtimes);
        assert!(start_on(&helper, &runtime));
        assert!(hears.blocking_recv().is_some());
        helper.stop();
        assert!(!start_on(&helper, &runtime));
        drop(helper);
        // The sender is gone with the loop and the helper.
        assert_eq!(hears.blocking_recv(), None);
    }

    #[test]
    fn a_helper_that_is_stopped_on_a_runtime_that_stands_still_drops_its_loop() {
        let runtimes = Arc::new(Runtimes::new(None));
        let runtime = one_thread();
        let (helper, mut hears) = helper(&runtimes);
        assert!(start_on(&helper, &runtime));
        drop(helper);
        assert_eq!(hears.blocking_recv(), None);
        runtime.block_on(tokio::task::yield_now());
    }

    #[test]
    fn a_loop_that_panics_goes_on_after_a_pause_that_grows() {
        let (says, mut hears) = mpsc::unbounded_channel();
        let starts = AtomicUsize::new(0);
        let helper = Helper::new(Arc::new(Runtimes::new(None)), PERIOD, move || {
            let says = says.clone();
            let start = starts.fetch_add(1, Ordering::Relaxed);
            Some(async move {
                says.send(Instant::now()).unwrap();
                assert!(start > 3, "the first loops panic");
            })
        });
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let begun = Instant::now();
            helper.start();
            for seconds in [0, 1, 3, 7, 15] {
                let start = hears.recv().await.unwrap();
                assert_eq!((start - begun).as_secs(), seconds);
            }
        });
    }

    #[test]
    fn a_runtime_with_threads_is_preferred_and_one_without_timers_is_not_used() {
        let (timeless, one, many) =
            (Builder::new_multi_thread().worker_threads(1).build().unwrap(), one_thread(), threads());
        let runtimes = Runtimes::new(Some(timeless.handle().clone()));
        assert!(runtimes.for_helper().is_none());
        assert_eq!(runtimes.for_tasks().unwrap().id(), timeless.handle().id());
        runtimes.remember(many.handle());
        let _entered = one.enter();
        assert_eq!(runtimes.for_helper().unwrap().id(), many.handle().id());
        assert_eq!(runtimes.after_end_of(many.handle().id()).unwrap().id(), one.handle().id());
        // Many others do not push the chosen one out.
        let others: Vec<_> = (0..20).map(|_| one_thread()).collect();
        others.iter().for_each(|other| runtimes.remember(other.handle()));
        assert!(!runtimes.has_timers(timeless.handle()));
        assert!(runtimes.sleep(PERIOD).is_some());
        let _entered = timeless.enter();
        assert!(runtimes.sleep(PERIOD).is_none());
    }
}
