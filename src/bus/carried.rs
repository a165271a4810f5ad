use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::helper::{Helper, Runtimes};
use crate::panics;

/// How often other runtimes look whether the loop still runs where it is.
const PERIOD: Duration = Duration::from_secs(1);

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

/// A loop in the background that owns its state, and survives the runtime that carries it.
///
/// When that runtime ends or stands still, the loop goes on on another one that it was [poked](Self::poke) on. If none of
/// those is alive the next poke goes on with it. A loop that panics goes on a second later, but not for ever: in user code a
/// panic may be an accident.
///
/// Dropping this does not stop a loop that runs; a loop that does not run is dropped.
pub(super) struct Carried<T: Carry>(Arc<Slot<T>>);

struct Slot<T: Carry> {
    idle: Mutex<Idle<T>>,
    phase: watch::Sender<Phase>,
    runtimes: Arc<Runtimes>,
    /// Runs the loop. The loop has the slot while it runs, so that it goes on without a [`Carried`].
    helper: Helper,
}

struct Idle<T: Carry> {
    /// While the loop does not run.
    value: Option<T>,
    output: Option<T::Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Ended,
}

impl<T: Carry> Carried<T> {
    pub(super) fn new(value: T) -> Self {
        let runtimes = Arc::new(Runtimes::new(None));
        Self(Arc::new_cyclic(|slot: &Weak<Slot<T>>| {
            let slot = Weak::clone(slot);
            let make = move || Some(slot.upgrade()?.take()?.run());
            Slot {
                idle: Mutex::new(Idle { value: Some(value), output: None }),
                phase: watch::Sender::new(Phase::Idle),
                helper: Helper::new(Arc::clone(&runtimes), PERIOD, make),
                runtimes,
            }
        }))
    }

    /// Starts the loop unless it runs or has ended, and remembers the runtime of the caller. `false` when no runtime with
    /// timers is alive to carry it.
    pub(super) fn poke(&self) -> bool {
        self.0.runtimes.remember_current();
        self.0.helper.start() || self.has_ended()
    }

    /// The same, with another runtime that may be alive.
    pub(super) fn poke_on(&self, runtime: &Handle) -> bool {
        self.0.runtimes.remember(runtime);
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
            if output.is_some() || self.has_ended() {
                return output;
            }
        }
        None
    }

    fn has_ended(&self) -> bool {
        *self.0.phase.borrow() == Phase::Ended
    }

    #[cfg(feature = "redis")]
    pub(super) fn downgrade(&self) -> WeakCarried<T> {
        WeakCarried(Arc::downgrade(&self.0))
    }
}

/// A [`Carried`] that may be gone.
#[cfg(feature = "redis")]
pub(super) struct WeakCarried<T: Carry>(Weak<Slot<T>>);

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

    /// Takes the value out for a run; `None` after the end.
    fn take(self: Arc<Self>) -> Option<Running<T>> {
        let value = self.idle().value.take()?;
        self.phase.send_replace(Phase::Running);
        Some(Running { slot: self, value: Some(value) })
    }
}

/// The value of a loop that runs. It goes back when the loop is dropped, such as with its runtime.
struct Running<T: Carry> {
    slot: Arc<Slot<T>>,
    /// `None` after the end.
    value: Option<T>,
}

impl<T: Carry> Running<T> {
    async fn run(mut self) {
        let Some(value) = &mut self.value else { return };
        let mut panics = 0;
        let output = loop {
            let begun = Instant::now();
            match panics::caught(pin!(value.run())).await {
                Ok(output) => break Some(output),
                Err(_) if begun.elapsed() >= IN_A_ROW => panics = 1,
                Err(_) => panics += 1,
            }
            if panics >= MOST_PANICS {
                break None;
            }
            sleep(AFTER_PANIC).await;
        };
        self.slot.idle().output = output;
        let value = self.value.take();
        panics::quietly(move || drop(value));
        self.slot.phase.send_replace(Phase::Ended);
    }
}

impl<T: Carry> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.slot.idle().value = Some(value);
            self.slot.phase.send_replace(Phase::Idle);
        }
    }
}

impl<T: Carry> fmt::Debug for Carried<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&*self.0.phase.borrow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Id, Runtime};
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
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            carried.poke();
            for _ in 0..MOST_PANICS {
                go_on.send(true).unwrap();
            }
            assert_eq!(carried.ended().await, None);
        });
        let mut runs = 0;
        while told.try_recv().is_ok() {
            runs += 1;
        }
        assert_eq!(runs, MOST_PANICS);
    }

    #[test]
    fn a_loop_needs_a_runtime_with_timers() {
        let (carried, _told, _go_on) = told();
        let timeless = Builder::new_current_thread().build().unwrap();
        assert!(!poke(&carried, &timeless));
        assert!(poke(&carried, &runtime()));
    }

    #[test]
    fn it_leaves_a_runtime_that_stands_still() {
        let (carried, mut told, _go_on) = told();
        let still = || Builder::new_current_thread().enable_all().build().unwrap();
        let (stands, runs) = (still(), still());
        assert!(poke(&carried, &stands));
        assert_eq!(stands.block_on(told.recv()), Some(stands.handle().id()));
        runs.block_on(async {
            carried.poke();
            assert_eq!(told.recv().await, Some(runs.handle().id()));
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
