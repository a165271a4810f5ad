use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// So many runtimes are remembered. The loop needs one that is alive, and programs have one or two.
const REMEMBERED: usize = 8;

/// Before a loop that panicked goes on: it might do so again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// A loop that panics so often, with less than a minute in between, has ended.
const MOST_PANICS: u32 = 16;
const IN_A_ROW: Duration = Duration::from_secs(60);

/// A loop that runs in the background on what it owns.
pub(super) trait Carry: Send + 'static {
    type Output: Send;

    /// The loop. It may be dropped wherever it waits, and is called again then: `self` has to be whole at each await.
    fn run(&mut self) -> impl Future<Output = Self::Output> + Send;
}

/// A loop in the background that survives the runtime that carries it.
///
/// When that runtime ends the loop goes on on another one that it was [poked](Self::poke) on. If none of those is alive
/// the next poke goes on with it. A loop that panics goes on a second
/// later, but not for ever: in user code a panic may be an accident, and in a runtime without timers it is none.
///
/// Dropping this does not stop a loop that runs; one that does not run is dropped.
pub(super) struct Carried<T: Carry>(Arc<Slot<T>>);

struct Slot<T: Carry> {
    idle: Mutex<Idle<T>>,
    phase: watch::Sender<Phase>,
}

struct Idle<T: Carry> {
    /// While no runtime carries it.
    value: Option<T>,
    output: Option<T::Output>,
    /// How often it panicked in a row, and when it did last.
    panics: u32,
    last_panic: Option<Instant>,
    /// Those it was poked on, the last one last, without those that are known to have ended.
    runtimes: Vec<Handle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Ended,
}

impl<T: Carry> Carried<T> {
    pub(super) fn new(value: T) -> Self {
        let idle =
            Idle { value: Some(value), output: None, panics: 0, last_panic: None, runtimes: Vec::new() };
        Self(Arc::new(Slot { idle: Mutex::new(idle), phase: watch::Sender::new(Phase::Idle) }))
    }

    /// Starts the loop unless it runs or has ended, and remembers the runtime of the caller. `false` when no runtime is
    /// alive to carry it.
    pub(super) fn poke(&self) -> bool {
        if let Ok(current) = Handle::try_current() {
            self.0.remember(current);
        }
        Slot::start(&self.0)
    }

    /// The same, with another runtime that may be alive.
    pub(super) fn poke_on(&self, runtime: Handle) -> bool {
        self.0.remember(runtime);
        self.poke()
    }

    /// Waits until no runtime carries the loop: it has ended, or all runtimes have that it was poked on.
    pub(super) async fn unattended(&self) {
        let mut phase = self.0.phase.subscribe();
        // The sender is in the slot.
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    }

    /// Waits for the end of the loop, and takes what it returned. `None` when there is no runtime for it.
    pub(super) async fn ended(&self) -> Option<T::Output> {
        while self.poke() {
            self.unattended().await;
            let output = self.0.idle().output.take();
            if output.is_some() || *self.0.phase.borrow() == Phase::Ended {
                return output;
            }
        }
        None
    }

    #[cfg(feature = "redis")]
    pub(super) fn downgrade(&self) -> WeakCarried<T> {
        WeakCarried(Arc::downgrade(&self.0))
    }
}

/// A [`Carried`] that may be gone.
#[cfg(feature = "redis")]
pub(super) struct WeakCarried<T: Carry>(std::sync::Weak<Slot<T>>);

#[cfg(feature = "redis")]
impl<T: Carry> WeakCarried<T> {
    pub(super) fn poke(&self) {
        if let Some(slot) = self.0.upgrade() {
            Carried(slot).poke();
        }
    }
}

impl<T: Carry> Slot<T> {
    fn idle(&self) -> MutexGuard<'_, Idle<T>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, runtime: Handle) {
        let mut idle = self.idle();
        if idle.runtimes.last().is_some_and(|last| last.id() == runtime.id()) {
            return;
        }
        idle.runtimes.retain(|known| known.id() != runtime.id());
        if idle.runtimes.len() == REMEMBERED {
            idle.runtimes.remove(0);
        }
        idle.runtimes.push(runtime);
    }

    fn start(this: &Arc<Self>) -> bool {
        let (value, runtime, pauses) = {
            let mut idle = this.idle();
            if idle.value.is_none() {
                return true;
            }
            let Some(runtime) = idle.runtimes.last().cloned() else { return false };
            (idle.value.take(), runtime, idle.panics > 0)
        };
        this.phase.send_replace(Phase::Running);
        let running = Running { slot: Arc::clone(this), value, runtime: runtime.id() };
        // A runtime that has ended drops the future at once, and the destructor starts the loop on another one.
        runtime.spawn(running.run(pauses));
        *this.phase.borrow() != Phase::Idle
    }
}

/// The loop in its task.
struct Running<T: Carry> {
    slot: Arc<Slot<T>>,
    /// `None` after its end.
    value: Option<T>,
    runtime: Id,
}

impl<T: Carry> Running<T> {
    async fn run(mut self, pauses: bool) {
        if pauses {
            sleep(AFTER_PANIC).await;
        }
        let Some(value) = &mut self.value else { return };
        let output = value.run().await;
        self.slot.idle().output = Some(output);
        drop(self.value.take());
        self.slot.phase.send_replace(Phase::Ended);
    }
}

impl<T: Carry> Drop for Running<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        let panicked = std::thread::panicking();
        let gone = {
            let mut idle = self.slot.idle();
            if panicked {
                let now = Instant::now();
                let in_a_row = idle.last_panic.is_some_and(|last| now.duration_since(last) < IN_A_ROW);
                idle.panics = if in_a_row { idle.panics + 1 } else { 1 };
                idle.last_panic = Some(now);
            } else {
                idle.runtimes.retain(|known| known.id() != self.runtime);
                idle.panics = 0;
            }
            if idle.panics < MOST_PANICS {
                idle.value = Some(value);
                None
            } else {
                Some(value)
            }
        };
        if gone.is_some() {
            drop(gone);
            self.slot.phase.send_replace(Phase::Ended);
            return;
        }
        self.slot.phase.send_replace(Phase::Idle);
        Slot::start(&self.slot);
    }
}

impl<T: Carry> fmt::Debug for Carried<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&*self.0.phase.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc;

    use super::*;

    /// Tells each runtime that it runs on, and waits until it is told to go on.
    struct Told(mpsc::UnboundedSender<Id>, mpsc::UnboundedReceiver<bool>);

    impl Carry for Told {
        type Output = usize;

        async fn run(&mut self) -> usize {
            self.0.send(Handle::current().id()).unwrap();
            match self.1.recv().await {
                Some(true) => panic!("as it was told"),
                _ => 7,
            }
        }
    }

    fn told() -> (Carried<Told>, mpsc::UnboundedReceiver<Id>, mpsc::UnboundedSender<bool>) {
        let ((tell, told), (go_on, goes_on)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        (Carried::new(Told(tell, goes_on)), told, go_on)
    }

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn poke(carried: &Carried<Told>, runtime: &Runtime) -> bool {
        let _entered = runtime.enter();
        carried.poke()
    }

    #[test]
    fn it_goes_on_on_the_runtimes_that_are_left() {
        let (carried, mut told, _go_on) = told();
        assert!(!carried.poke(), "there is no runtime");
        let (first, second, third) = (runtime(), runtime(), runtime());
        for runtime in [&first, &second, &third] {
            assert!(poke(&carried, runtime));
        }
        assert_eq!(told.blocking_recv(), Some(first.handle().id()));
        drop(third);
        drop(first);
        assert_eq!(told.blocking_recv(), Some(second.handle().id()));
        drop(second);
        assert!(!carried.poke(), "no runtime is left");
        let fourth = runtime();
        assert!(poke(&carried, &fourth));
        assert_eq!(told.blocking_recv(), Some(fourth.handle().id()));
        assert!(told.try_recv().is_err(), "it runs once");
    }

    #[test]
    fn its_end_is_waited_for_over_the_end_of_a_runtime() {
        let (carried, mut told, go_on) = told();
        let (first, second) = (runtime(), runtime());
        poke(&carried, &first);
        assert!(told.blocking_recv().is_some());
        drop(first);
        go_on.send(false).unwrap();
        assert_eq!(second.block_on(carried.ended()), Some(7));
        assert_eq!(second.block_on(carried.ended()), None);
        assert!(poke(&carried, &second), "it has ended, and needs no runtime");
    }

    #[test]
    fn a_loop_that_panics_again_and_again_ends() {
        let (carried, mut told, go_on) = told();
        // Without timers, so that the pause panics too.
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            carried.poke();
            assert!(told.recv().await.is_some());
            go_on.send(true).unwrap();
            assert_eq!(carried.ended().await, None);
        });
    }

    #[test]
    fn a_loop_that_panics_goes_on() {
        let (carried, mut told, go_on) = told();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            carried.poke();
            assert!(told.recv().await.is_some());
            go_on.send(true).unwrap();
            assert!(told.recv().await.is_some());
            go_on.send(false).unwrap();
            assert_eq!(carried.ended().await, Some(7));
        });
    }
}
