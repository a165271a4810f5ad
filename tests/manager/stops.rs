//! How a stop reaches the work, whatever else happens at that moment.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use tower_offload::task::Outcome;
use tower_offload::{TaskManager, TaskStatus, cancellation_token};

use crate::patience::PATIENCE;
use crate::support::{alice, meta};

/// Subscribes, and waits with this waker for the next change.
fn watch(manager: &TaskManager, waker: impl Wake + Send + Sync + 'static) -> impl Send {
    let mut changes = manager.subscribe(alice());
    let mut waits = async move { drop(changes.recv().await) }.boxed();
    let waker = Waker::from(Arc::new(waker));
    assert!(waits.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    waits
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Wakes the work, and holds up the thread that stops the tasks until the work is gone.
struct HoldsUp {
    work: Arc<Notify>,
    gone: Mutex<Receiver<()>>,
}

impl Wake for HoldsUp {
    fn wake(self: Arc<Self>) {
        self.work.notify_one();
        self.gone.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
}

struct Gone(Sender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The worker looks after the request was noted and before the token was cancelled: a waker of another token runs then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_polled_in_the_midst_of_a_stop_is_told_before_it_is_dropped() {
    for holder_first in [true, false] {
        midst_of_a_stop(holder_first).await;
    }
}

async fn midst_of_a_stop(holder_first: bool) {
    let manager = TaskManager::builder().cancel_grace(Duration::ZERO).build();
    let (tokens, token) = oneshot::channel();
    let holder = async move {
        let _ = tokens.send(cancellation_token());
        std::future::pending::<()>().await;
    };
    let (work, ready, told) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (gone, is_gone) = channel();
    let mut holder = Some(holder);
    if holder_first {
        manager.spawn(meta(), holder.take().unwrap()).unwrap();
    }
    let task = {
        let (work, ready, told, gone) = (work.clone(), ready.clone(), told.clone(), Gone(gone));
        manager.spawn(meta(), async move {
            let _gone = gone;
            let token = cancellation_token();
            ready.notify_one();
            loop {
                tokio::select! {
                    biased;
                    () = token.cancelled() => break,
                    () = work.notified() => {}
                }
            }
            told.store(true, Ordering::SeqCst);
            Outcome::Cancelled
        })
    };
    let id = task.unwrap().id;
    if let Some(holder) = holder {
        manager.spawn(meta(), holder).unwrap();
    }
    ready.notified().await;
    // Its first poll is over when the next one is.
    tokio::task::yield_now().await;
    let mut cancelled = token.await.unwrap().cancelled_owned().boxed();
    let waker = Waker::from(Arc::new(HoldsUp { work, gone: Mutex::new(is_gone) }));
    assert!(cancelled.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    // On a thread that is none of the runtime's: what it wakes is run by those, while it is held up.
    let asked = std::thread::spawn({
        let (manager, runtime) = (manager.clone(), tokio::runtime::Handle::current());
        move || runtime.block_on(manager.stop_all(&alice())).unwrap()
    });
    let ended = tokio::time::timeout(PATIENCE, manager.wait(&alice(), id)).await.unwrap().unwrap().unwrap();
    asked.join().unwrap();
    assert_eq!(ended.status, TaskStatus::Cancelled);
    assert!(told.load(Ordering::SeqCst), "it was dropped without a word");
}

#[tokio::test]
async fn a_waker_that_panics_neither_loses_a_stop_nor_silences_the_others() {
    let manager = TaskManager::new();
    let id = manager.spawn(meta(), std::future::pending::<()>()).unwrap().id;
    tokio::task::yield_now().await;
    let broken = watch(&manager, Panics);
    let stop = AssertUnwindSafe(manager.stop(&alice(), id)).catch_unwind().await;
    assert!(stop.is_ok(), "it costs neither the one who stops");
    drop(broken);
    let ended = tokio::time::timeout(PATIENCE, manager.wait(&alice(), id)).await.unwrap().unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Cancelled);
    // Whoever subscribes from now on hears of what happens.
    let mut changes = manager.subscribe(alice());
    manager.spawn(meta(), async {}).unwrap();
    assert!(tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap().is_some());
    let shutdown = tokio::time::timeout(PATIENCE, manager.shutdown(PATIENCE)).await.unwrap();
    assert_eq!((shutdown.unsettled, shutdown.undelivered), (0, 0));
}
