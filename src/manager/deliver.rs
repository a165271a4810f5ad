//! The last part of a task's life: its end is published, and told to who wants it.

use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::directory::Verdict;
use super::shared::Shared;
use super::worker::{BoxError, caught, take_message};
use crate::task::{Outcome, TaskId};

/// Tells when other processes can see the end of a task.
pub(crate) struct Seen(Option<oneshot::Receiver<()>>);

impl Seen {
    pub(super) const fn new(told: Option<oneshot::Receiver<()>>) -> Self {
        Self(told)
    }

    pub(crate) async fn wait(self) {
        if let Some(seen) = self.0 {
            // An error says that nobody waits for it any more.
            let _ = seen.await;
        }
    }
}

/// An ended task whose end is not known to all who should know it.
#[derive(Debug)]
pub(super) struct Delivering {
    shared: Arc<Shared>,
    id: TaskId,
    /// It has not said itself what became of it.
    armed: bool,
}

impl Delivering {
    pub(super) const fn new(shared: Arc<Shared>, id: TaskId) -> Self {
        Self { shared, id, armed: true }
    }

    pub(super) fn over(mut self, well: bool) {
        self.armed = false;
        self.shared.delivered(well);
    }
}

impl Drop for Delivering {
    /// The runtime went away under it.
    fn drop(&mut self) {
        if self.armed {
            self.shared.delivered(false);
            tracing::error!(task_id = %self.id, "result of a background task lost with its runtime");
        }
    }
}

/// Waits until the end is `published`, and delivers it. `tell` tells the delivery that it can be seen.
pub(super) async fn deliver<D>(
    task: Delivering,
    published: Option<(oneshot::Receiver<Verdict>, oneshot::Sender<()>)>,
    delivery: D,
) where
    D: Future<Output = Result<(), BoxError>>,
{
    // When it has answered, nothing of the delivery is left: a shutdown that hears of the end may go on.
    let redactor = &task.shared.limits.redactor;
    let (trouble, _) = match run(task.id, published, delivery).await {
        Ok(Ok(())) => return task.over(true),
        Ok(Err(error)) => redactor.text(error, Outcome::MAX_ERROR_CHARS),
        Err(panic) => {
            redactor.text(format_args!("panicked: {}", take_message(panic)), Outcome::MAX_ERROR_CHARS)
        }
    };
    tracing::error!(task_id = %task.id, error = trouble, "result of a background task not delivered");
    task.over(false);
}

async fn run<D>(
    id: TaskId,
    published: Option<(oneshot::Receiver<Verdict>, oneshot::Sender<()>)>,
    delivery: D,
) -> Result<Result<(), BoxError>, Box<dyn Any + Send>>
where
    D: Future<Output = Result<(), BoxError>>,
{
    let delivery = pin!(delivery);
    let mut delivery = pin!(caught(delivery));
    let Some((mut published, tell)) = published else { return delivery.await };
    // First the delivery, up to where it waits: it may have too much to keep while the bus is away.
    let (early, verdict) = tokio::select! {
        biased;
        done = &mut delivery => (Some(done), published.await),
        verdict = &mut published => (None, verdict),
    };
    // Nobody is told of an end that others see as another one.
    if verdict == Ok(Verdict::Fenced) {
        tracing::warn!(task_id = %id, "result dropped: the task was taken for lost");
        return Ok(Ok(()));
    }
    // An error says that the delivery does not wait.
    let _ = tell.send(());
    match early {
        Some(delivered) => delivered,
        None => delivery.await,
    }
}
