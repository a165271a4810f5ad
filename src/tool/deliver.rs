use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::ToolResponse;
use super::hint::hint;
use crate::bus::{self, BusError, Delivery, SharedBus};
use crate::log_limit::LogLimit;
use crate::manager::{BoxError, Ended, Redactor};
use crate::offload::{DeliverResult, Delivery as Ending};
use crate::task::TaskRecord;

/// The time limit of one attempt, for a bus that neither answers nor fails.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The delivering hook for tool calls. It puts the end of a call into the inbox of its session, as a hint that the agent
/// reads on its next step. A call without a session has no inbox, and the hook delivers nothing.
///
/// The hint is AgentScope's `HintBlock`, byte for byte what its `ToolOffloadMiddleware` writes, with two exceptions: it
/// contains both ids, `(id=CALL, task_id=TASK)`, and it reports a failure as a failure. The id of the block is that of the
/// task, as 32 hexadecimal digits.
///
/// | the record says | the hint says |
/// | --- | --- |
/// | `completed` | has completed, with the blocks of the response, or "with no output" |
/// | `failed` | has failed, with the blocks of the response or the error's text |
/// | `failed`: `panic`, `timed_out`, `worker_lost` | has failed, for that reason |
/// | `cancelled`: `shutdown` | was stopped because the process shut down |
/// | `cancelled` | nothing is delivered: the caller that stopped the task has an answer already |
///
/// # Text from outside
///
/// No text of a tool, a caller or a model can close the notice around it, or open another one. In names, ids, errors and
/// all texts of the output, the hook looks for `<system-notification>`, `<system-reminder>` and their closing tags, in each
/// spelling that a model may read as one. It replaces the opening bracket by `(`. It also finds a tag that is spread over
/// several blocks. It removes NUL, and replaces other control characters in names and ids by spaces. All other text stays
/// byte for byte.
///
/// The output is the answer of the tool to its own agent, so the hook does not search it for secrets. It applies the
/// [rule](Self::redact) for secrets to the text of an error, and cuts that to 8,192 characters; a cut text ends in `...`.
///
/// A URL block that a strict reader may refuse becomes a block of text. AgentScope would lose all entries that it reads
/// together with one that does not validate.
///
/// # When the bus fails
///
/// The hook repeats the delivery until it succeeds, after 100 ms and then after twice as long each time, up to 30 s. An
/// attempt without an answer after 30 s counts as failed. So the delivery happens at least once while the process lives.
/// The task id is the dedupe key: a repeated attempt changes nothing, and one result wakes the agent at most once. The
/// manager drops the delivery after its [time limit](crate::manager::TaskManagerBuilder::max_delivery_time).
/// [Shutting down](crate::TaskManager::shutdown) waits for it as for running work.
///
/// When the process dies and other processes share the bus, the first process that finds the task lost delivers a hint that
/// says so, over the bus of its manager.
///
/// Waiting results take memory up to [a limit](Self::max_waiting_bytes). This includes results that wait until a shared bus
/// has published the end of their task. A result that does not fit is not delivered. The manager logs it, counts it as
/// undelivered, and still keeps it as the result of the task.
#[derive(Clone, Debug)]
#[must_use = "a deliverer does nothing until it is given to a layer"]
pub struct DeliverHint {
    bus: SharedBus,
    first_retry: Duration,
    last_retry: Duration,
    max_waiting_bytes: usize,
    waiting: Arc<AtomicUsize>,
    redactor: Redactor,
}

impl DeliverHint {
    /// Delivers over `bus`, which is the bus of the manager unless the inboxes are on another one.
    pub fn new(bus: SharedBus) -> Self {
        Self {
            bus,
            first_retry: Duration::from_millis(100),
            last_retry: Duration::from_secs(30),
            max_waiting_bytes: 64 << 20,
            waiting: Arc::default(),
            redactor: Redactor::default(),
        }
    }

    /// Sets the rule for secrets in the text of an error. [`OffloadLayer::for_tools`](crate::OffloadLayer::for_tools) sets
    /// the rule of the [manager](crate::manager::TaskManagerBuilder::redact). Default: [`redact`](crate::redact).
    pub fn redact(mut self, rule: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.redactor = Redactor::new(rule);
        self
    }

    pub(super) fn redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// Sets the first and the longest pause before a failed delivery is repeated. Default: 100 ms and 30 s.
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_retry = first;
        self.last_retry = longest;
        self
    }

    /// Limits the bytes of waiting hints, of all clones of this hook together. Default: 64 MiB.
    pub const fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.max_waiting_bytes = bytes;
        self
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), BoxError> {
        let mut wait = self.first_retry.min(self.last_retry);
        let mut attempt = 1_u64;
        loop {
            let deliver = bus::caught("deliver a result", async { self.bus.deliver(delivery).await });
            let error = match tokio::time::timeout(ATTEMPT, deliver).await {
                Ok(Ok(woken)) => {
                    tracing::debug!(task_id = &*delivery.dedupe_key, woken, attempt, "result delivered");
                    return Ok(());
                }
                Ok(Err(error)) => error,
                Err(elapsed) => BusError::new("deliver a result in time", elapsed),
            };
            // Each waiting delivery gets here once for each of its attempts.
            static LINES: LogLimit = LogLimit::new();
            LINES.write(|left_out| {
                tracing::warn!(
                    task_id = &*delivery.dedupe_key,
                    error = &error as &dyn std::error::Error,
                    attempt,
                    retry_after = ?wait,
                    left_out,
                    "result of a background tool not delivered yet"
                );
            });
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(self.last_retry);
            attempt += 1;
        }
    }
}

impl<Call, E> DeliverResult<Call, ToolResponse, E> for DeliverHint
where
    Call: Send,
    E: fmt::Display + Send,
{
    fn deliver(
        &self,
        ending: Ending<Call, ToolResponse, E>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let Ending { task, ended, .. } = ending;
        let has_session = !task.meta.session_id().is_empty();
        // Before the first await, so that a waiting result is in memory once, and not at all if it does not fit.
        let waiting = hint(&task, ended, &self.redactor).map_err(BoxError::from).and_then(|payload| {
            let Some(payload) = payload.filter(|_| has_session) else { return Ok(None) };
            let room = Room::take(self, payload.len())?;
            Ok(Some((Delivery::new(task.id.to_string(), &task.meta, payload), room)))
        });
        async move {
            match waiting? {
                Some((delivery, _room)) => self.send(&delivery).await,
                None => Ok(()),
            }
        }
    }

    fn last_will(&self, _: &Call, task: &TaskRecord) -> Option<Delivery> {
        if task.meta.session_id().is_empty() {
            return None;
        }
        let mut lost = task.lost(task.started_at);
        // The sentence of the hint says the reason.
        lost.error_summary = None;
        let payload = hint::<Infallible>(&lost, Ended::Cancelled, &self.redactor).ok().flatten()?;
        Some(Delivery::new(task.id.to_string(), &task.meta, payload))
    }
}

/// A share of the memory for waiting results.
struct Room<'a> {
    waiting: &'a AtomicUsize,
    bytes: usize,
}

impl<'a> Room<'a> {
    fn take(deliverer: &'a DeliverHint, bytes: usize) -> Result<Self, NoRoom> {
        let waiting = &*deliverer.waiting;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= deliverer.max_waiting_bytes);
        match waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self { waiting, bytes }),
            Err(_) => Err(NoRoom { bytes }),
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct NoRoom {
    bytes: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a hint of {} bytes does not fit into the room for hints that wait", self.bytes)
    }
}

impl std::error::Error for NoRoom {}
