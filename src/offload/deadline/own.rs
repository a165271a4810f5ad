use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// The deadline of a call that is in no lane.
///
/// A timer belongs to the runtime that made it, and polling it after the end of that runtime panics. The call may be
/// polled on another runtime by then. So a task of the runtime has the timer, and the call waits for the task.
pub(in crate::offload) struct Own {
    deadline: Instant,
    /// `None` after the end of the runtime of the last task.
    task: Option<Task>,
}

struct Task {
    /// Closed without a message when the runtime ends.
    is_due: oneshot::Receiver<()>,
    handle: AbortHandle,
}

impl Own {
    /// # Panics
    ///
    /// Outside of a runtime with a time driver.
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, task: Some(Task::start(deadline)) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The call reads the clock too: a call that has used up its cooperative budget does not see the message of the task,
        // and a `current_thread` runtime fires no timer between two calls of `block_on`.
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        for _ in 0..2 {
            let task = self.task.get_or_insert_with(|| Task::start(self.deadline));
            match Pin::new(&mut task.is_due).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                // The runtime of the task has ended. The runtime that polls the call now times the rest.
                Poll::Ready(Err(_)) => self.task = None,
            }
        }
        // That runtime has ended as well, and there is no timer that could wake the call: it is polled until it is due, or
        // until a runtime that is alive polls it.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Task {
    fn start(deadline: Instant) -> Self {
        // Here and not in the task: without a time driver this panics, and the panic belongs to the call.
        let sleep = sleep_until(deadline);
        let (tell, is_due) = oneshot::channel();
        let task = Handle::current().spawn(async move {
            sleep.await;
            // It fails if the call does not wait any more.
            let _ = tell.send(());
        });
        Self { is_due, handle: task.abort_handle() }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
