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
/// polled on another one by then. So the timer is in a task of its runtime, and the call waits for the task.
pub(in crate::offload) struct Own {
    deadline: Instant,
    /// `None`: the runtime of the last poll had ended.
    task: Option<Task>,
}

struct Task {
    /// Closed without a message when the runtime ends.
    is_due: oneshot::Receiver<()>,
    handle: AbortHandle,
}

impl Own {
    /// Panics where there is no runtime with a time driver.
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, task: Some(Task::start(deadline)) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The clock is asked beside the task: a task that has used up its budget learns of nothing, and the runtime of the
        // timer may stand still.
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        for _ in 0..2 {
            let task = self.task.get_or_insert_with(|| Task::start(self.deadline));
            match Pin::new(&mut task.is_due).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                // What is left of the time goes on where the call is polled now.
                Poll::Ready(Err(_)) => self.task = None,
            }
        }
        // That runtime has ended as well. The next poll is on one that is alive, if there is any.
        Poll::Pending
    }
}

impl Task {
    fn start(deadline: Instant) -> Self {
        // Here and not in the task, because this is what panics without a time driver.
        let sleep = sleep_until(deadline);
        let (tell, is_due) = oneshot::channel();
        let task = Handle::current().spawn(async move {
            sleep.await;
            // An error says that the call has left.
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
