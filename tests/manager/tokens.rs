//! What may call the manager while a token is cancelled.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use futures_util::FutureExt;
use tower_offload::manager::StopOutcome;
use tower_offload::{TaskId, TaskManager, TaskStatus, cancellation_token};

use crate::patience::PATIENCE;
use crate::support::{alice, meta};

/// Only how long a deadlock takes to be called one.
/// Calls the manager when it is woken, and sends what the manager answered.
struct Calls {
    manager: TaskManager,
    task: TaskId,
    answers: Mutex<mpsc::Sender<(Option<StopOutcome>, usize)>>,
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        let stop = self.manager.stop(&alice(), self.task).now_or_never();
        let _ = self.manager.health();
        let answer = (stop.and_then(Result::ok), self.manager.stats().running);
        self.answers.lock().unwrap().send(answer).unwrap();
    }
}

/// The token that the work gets is a child of the task's own. tokio-util before 0.7.20 calls the wakers of children while
/// it holds the lock of their parent, so that the second stop waits for the first one for ever.
#[test]
fn the_waker_of_a_token_may_stop_the_task_and_ask_the_manager() {
    let (tokens, token) = mpsc::channel();
    let (answers, answer) = mpsc::channel();
    // A thread of its own, so that a deadlock fails the test and does not hang it.
    let stops = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let manager = TaskManager::new();
            let work = async move {
                let _ = tokens.send(cancellation_token());
                std::future::pending::<()>().await;
            };
            let id = manager.spawn(meta(), work).unwrap().id;
            tokio::task::yield_now().await;
            let token = token.recv().unwrap();
            let waker = Calls { manager: manager.clone(), task: id, answers: Mutex::new(answers) };
            let waker = Waker::from(Arc::new(waker));
            let mut cancelled = pin!(token.cancelled());
            assert!(cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let stop = manager.stop(&alice(), id).await.unwrap();
            (stop, manager.wait(&alice(), id).await.unwrap().unwrap().status)
        })
    });
    let (second, running) = answer.recv_timeout(PATIENCE).expect("the manager answers inside of the waker");
    assert_eq!((second, running), (Some(StopOutcome::Requested), 1));
    assert_eq!(stops.join().unwrap(), (StopOutcome::Requested, TaskStatus::Cancelled));
}
