//! A background loop that survives the runtime that carries it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::runtimes::Runtimes;

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A loop that runs as a task of one of the manager's runtimes while there is something to do.
///
/// Each entry point that needs the loop [starts](Self::start) it, which does nothing while it runs. When the runtime that
/// carries it ends, the loop goes on on another one that is alive; if there is none, the next start begins it again. So a
/// loop keeps its state outside of its future.
///
/// Dropping the helper stops the loop.
pub(crate) struct Helper(Arc<Inner>);

struct Inner {
    runtimes: Arc<Runtimes>,
    /// Makes the loop; `None` when there is nothing left to help.
    make: Box<dyn Fn() -> Option<Run> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    is_stopped: bool,
    /// It was started while it ran. It may have been about to end, so that it runs once more then.
    again: bool,
    task: Option<AbortHandle>,
}

impl Helper {
    pub(crate) fn new<F>(
        runtimes: Arc<Runtimes>,
        make: impl Fn() -> Option<F> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let make = Box::new(move || make().map(|run| Box::pin(run) as Run));
        Self(Arc::new(Inner { runtimes, make, state: Mutex::default() }))
    }

    /// Starts the loop, unless it runs. Answers whether it runs now: it does not outside of all runtimes.
    pub(crate) fn start(&self) -> bool {
        {
            let mut state = self.0.state();
            if state.is_running || state.is_stopped {
                state.again = true;
                return state.is_running;
            }
        }
        let runtime = self.0.runtimes.for_helper();
        runtime.is_some_and(|runtime| Inner::start_on(&self.0, &runtime))
    }

    /// Stops the loop where it waits next. It does not start again.
    pub(crate) fn stop(&self) {
        let task = {
            let mut state = self.0.state();
            state.is_stopped = true;
            state.task.take()
        };
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_on(this: &Arc<Self>, runtime: &Handle) -> bool {
        {
            let mut state = this.state();
            if state.is_running || state.is_stopped {
                return state.is_running;
            }
            state.is_running = true;
            state.again = false;
        }
        let Some(run) = (this.make)() else {
            this.state().is_running = false;
            return false;
        };
        let carried = Carried { helper: Arc::downgrade(this), runtime: runtime.clone(), has_ended: false };
        // A runtime that has ended drops the future at once, and the destructor starts the loop on another one.
        let task = runtime.spawn(carried.run(run)).abort_handle();
        let mut state = this.state();
        if state.is_stopped {
            drop(state);
            task.abort();
            return false;
        }
        if !task.is_finished() {
            state.task = Some(task);
        }
        state.is_running
    }
}

/// Beside the loop in its task, to notice how that ends.
struct Carried {
    helper: Weak<Inner>,
    runtime: Handle,
    /// The loop has come to its end: there is nothing to do.
    has_ended: bool,
}

impl Carried {
    async fn run(mut self, run: Run) {
        run.await;
        self.has_ended = true;
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Some(helper) = self.helper.upgrade() else { return };
        let again = {
            let mut state = helper.state();
            state.is_running = false;
            state.again
        };
        // A loop that panics would most likely do so again: the next entry point starts it.
        if std::thread::panicking() {
            return;
        }
        if self.has_ended {
            if again {
                Inner::start_on(&helper, &self.runtime);
            }
        } else if let Some(other) = helper.runtimes.after_end_of(self.runtime.id()) {
            Inner::start_on(&helper, &other);
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
        f.debug_struct("Helper").field("state", &*self.0.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::{Builder, Id, Runtime};
    use tokio::sync::mpsc;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
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
        (Helper::new(Arc::clone(runtimes), make), hears)
    }

    #[test]
    fn a_loop_goes_on_on_another_runtime_when_its_own_ends() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (helper, mut hears) = helper(&runtimes);
        assert!(!helper.start(), "there is no runtime");
        let (first, second) = (runtime(), runtime());
        for runtime in [&second, &first] {
            let _entered = runtime.enter();
            assert!(runtimes.for_tasks().is_some());
        }
        {
            let _entered = first.enter();
            assert!(helper.start());
            assert!(helper.start(), "it runs already");
        }
        assert_eq!(hears.blocking_recv(), Some(first.handle().id()));
        drop(first);
        assert_eq!(hears.blocking_recv(), Some(second.handle().id()));
        drop(second);

        // With no runtime alive the next start begins it again.
        assert!(!helper.start());
        let third = runtime();
        let _entered = third.enter();
        assert!(helper.start());
        assert_eq!(hears.blocking_recv(), Some(third.handle().id()));
        assert!(hears.try_recv().is_err(), "it runs once");
    }

    #[test]
    fn a_helper_that_was_stopped_or_dropped_does_not_run() {
        let runtimes = Arc::new(Runtimes::new(None));
        let runtime = runtime();
        let _entered = runtime.enter();
        let (helper, mut hears) = helper(&runtimes);
        assert!(helper.start());
        assert!(hears.blocking_recv().is_some());
        helper.stop();
        assert!(!helper.start() || helper.0.state().is_stopped);
        drop(helper);
        // The sender is gone with the loop and the helper.
        assert_eq!(hears.blocking_recv(), None);
    }

    #[test]
    fn a_loop_that_panics_is_started_by_the_next_entry_point_and_not_by_itself() {
        let runtimes = Arc::new(Runtimes::new(None));
        let (runtime, other) = (runtime(), runtime());
        drop(other.enter());
        let _entered = runtime.enter();
        let starts = Arc::new(AtomicUsize::new(0));
        let (says, mut hears) = mpsc::unbounded_channel::<()>();
        let counting = Arc::clone(&starts);
        let helper = Helper::new(runtimes, move || {
            let says = says.clone();
            let start = counting.fetch_add(1, Ordering::Relaxed);
            Some(async move {
                let _says = says;
                assert!(start > 0, "the first loop panics");
            })
        });
        helper.start();
        while helper.0.state().is_running {
            std::thread::yield_now();
        }
        assert_eq!(starts.load(Ordering::Relaxed), 1);
        helper.start();
        drop(helper);
        assert_eq!(hears.blocking_recv(), None);
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }
}
