//! The last part of a task's life: its end is published, and its result is delivered.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::answers::BoxError;
use super::mirror::{Verdict, VerdictReceiver};
use super::shared::Shared;
use super::table::Place;
use super::timer::poll_timer;
use crate::panics;
use crate::task::Outcome;

/// Runs the delivery of a task when other processes can see the end of the task.
#[derive(Debug)]
pub(crate) struct Published {
    shared: Arc<Shared>,
    /// `None`: there are no other processes.
    verdict: Option<VerdictReceiver>,
}

impl Published {
    pub(super) const fn new(shared: Arc<Shared>, verdict: Option<VerdictReceiver>) -> Self {
        Self { shared, verdict }
    }

    /// Runs `delivery` when the end is published, for at most the delivery time of the manager. The delivery is dropped
    /// without a poll if other processes see another end.
    pub(crate) async fn then(
        self,
        delivery: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), BoxError> {
        if let Some(verdict) = self.verdict
            // The sender is dropped without a verdict only with the manager.
            && verdict.await.unwrap_or(Verdict::Fenced) == Verdict::Fenced
        {
            panics::quietly(|| tracing::warn!("result dropped: the task was taken for lost"));
            return Ok(());
        }
        // A shutdown does not give up a delivery that still waits for the bus, because the process may live on.
        let given_up = self.shared.give_up.notified();
        let limit = self.shared.limits.max_delivery_time;
        let timer = limit.and_then(|limit| self.shared.sleep(limit));
        let too_late = async {
            match timer {
                Some(timer) => {
                    let mut timer = pin!(timer);
                    poll_fn(|cx| poll_timer(timer.as_mut(), cx)).await;
                }
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = delivery => done,
            () = too_late => {
                Err(format!("the delivery was not done after {:?}", limit.unwrap_or_default()).into())
            }
            () = given_up => Err("the manager was shut down".into()),
        }
    }
}

/// An ended task whose delivery counts against the limits on running tasks.
#[derive(Debug)]
pub(super) struct Delivering {
    shared: Arc<Shared>,
    place: Place,
    /// It is not accounted for yet.
    is_open: bool,
}

impl Delivering {
    pub(super) const fn new(shared: Arc<Shared>, place: Place) -> Self {
        Self { shared, place, is_open: true }
    }

    /// There is nothing to deliver, and nothing was counted.
    pub(super) fn forget(mut self) {
        self.is_open = false;
    }

    /// The delivery has ended, well or not, or the work that was left has been dropped.
    pub(super) fn done(mut self, well: bool) {
        self.is_open = false;
        self.shared.delivered(self.place, well);
    }
}

impl Drop for Delivering {
    /// The runtime has ended under the delivery.
    fn drop(&mut self) {
        if self.is_open {
            self.shared.delivered(self.place, false);
            panics::quietly(|| {
                tracing::error!(task_id = %self.place.id, "result of a background task lost with its runtime");
            });
        }
    }
}

/// Runs a delivery to its end, and accounts for it.
pub(super) async fn deliver<D>(task: Delivering, delivery: D)
where
    D: Future<Output = Result<(), BoxError>>,
{
    // The delivery and its error are dropped before they are accounted for: a shutdown goes on when all deliveries are.
    let redactor = &task.shared.limits.redactor;
    let (trouble, _) = match panics::caught(delivery).await {
        Ok(Ok(())) => return task.done(true),
        Ok(Err(error)) => {
            let trouble = redactor.text(&error, Outcome::MAX_ERROR_CHARS);
            panics::quietly(move || drop(error));
            trouble
        }
        Err(message) => redactor.text(format_args!("panicked: {message}"), Outcome::MAX_ERROR_CHARS),
    };
    panics::quietly(|| {
        tracing::error!(task_id = %task.place.id, error = trouble, "result of a background task not delivered");
    });
    task.done(false);
}
