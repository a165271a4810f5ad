use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::plan::{IntoPlan, Plan};
use crate::bus;
use crate::manager::{BoxError, Ended, Refused};
use crate::task::{Outcome, Settlement, TaskMeta, TaskRecord};

/// Decides whether a call may be handed over, and keeps the parts of its request that its task needs.
///
/// Runs for every call, before the inner service gets the request, so it should be cheap: keep a few small values, and
/// make strings in [`OffloadCall::meta`], which runs only at the hand-over.
///
/// Closures `Fn(&Request) -> Option<impl OffloadCall>` and `Fn(&Request) -> Plan<impl OffloadCall>` are describers;
/// [`TaskMeta`] is an [`OffloadCall`].
pub trait DescribeCall<Request> {
    /// The value that the layer keeps while the call runs.
    type Call: OffloadCall;

    /// Whether the layer may hand the call over, when, and the value that it keeps.
    ///
    /// A call for which this method panics stays in the foreground, and a line of `tracing` at level `ERROR` says so, at most
    /// one in five seconds.
    fn describe_call(&self, request: &Request) -> Plan<Self::Call>;
}

impl<F, Request, Answer> DescribeCall<Request> for F
where
    F: Fn(&Request) -> Answer,
    Answer: IntoPlan<Call: OffloadCall>,
{
    type Call = Answer::Call;

    #[inline]
    fn describe_call(&self, request: &Request) -> Plan<Answer::Call> {
        self(request).into_plan()
    }
}

/// The value that the layer keeps of a call, from which it makes the description of the task.
///
/// The [`Plan`] around it says whether and when the layer hands the call over.
pub trait OffloadCall: Send + 'static {
    /// Who made the call, and what it is. Runs once at the most, at the hand-over.
    fn meta(&self) -> TaskMeta;
}

impl OffloadCall for TaskMeta {
    fn meta(&self) -> TaskMeta {
        self.clone()
    }
}

/// A hand-over, as [`RespondOffloaded`] gets it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Offloaded<'a, Call> {
    /// The task that the call has become.
    pub task: &'a TaskRecord,
    /// What was kept of the call.
    pub call: &'a Call,
    /// The timeout that has passed.
    pub timeout: Duration,
}

impl<'a, Call> Offloaded<'a, Call> {
    /// For tests of a responder, and for a responder that calls another one.
    pub const fn new(task: &'a TaskRecord, call: &'a Call, timeout: Duration) -> Self {
        Self { task, call, timeout }
    }
}

/// Answers the caller in place of a call that was handed over.
///
/// Closures `Fn(&TaskRecord) -> Response` are responders.
pub trait RespondOffloaded<Call, Response> {
    /// The placeholder. Runs before the work moves: if it panics the call ends as one that panicked in the
    /// foreground, and no task is left.
    fn respond(&self, offloaded: &Offloaded<'_, Call>) -> Response;

    /// The answer to a call that is late and cannot become a task. `None`, the default: the call goes on in the
    /// foreground. With an answer the work is dropped.
    fn refuse(&self, call: &Call, refused: Refused) -> Option<Response> {
        let _ = (call, refused);
        None
    }
}

impl<F, Call, Response> RespondOffloaded<Call, Response> for F
where
    F: Fn(&TaskRecord) -> Response,
{
    fn respond(&self, offloaded: &Offloaded<'_, Call>) -> Response {
        self(offloaded.task)
    }
}

/// Decides from the result of a handed-over call how its task ended.
///
/// Closures `Fn(Result<&Response, &Error>) -> impl Into<Settlement>` are classifiers; an [`Outcome`] is such a
/// settlement.
pub trait ClassifyResult<Response, Error> {
    /// The outcome, and the result to keep. Runs once, in the background, before the record turns terminal.
    /// A panic in it counts as a panic of the work.
    fn classify(&self, result: Result<&Response, &Error>) -> Settlement;
}

impl<F, Response, Error, Verdict> ClassifyResult<Response, Error> for F
where
    F: Fn(Result<&Response, &Error>) -> Verdict,
    Verdict: Into<Settlement>,
{
    fn classify(&self, result: Result<&Response, &Error>) -> Settlement {
        self(result).into()
    }
}

/// `Ok` is a success, `Err` is a failure with the error's text. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrIsFailure;

impl<Response, Error: fmt::Display> ClassifyResult<Response, Error> for ErrIsFailure {
    fn classify(&self, result: Result<&Response, &Error>) -> Settlement {
        match result {
            Ok(_) => Outcome::Completed.into(),
            Err(error) => Outcome::failed(error).into(),
        }
    }
}

/// The end of a handed-over call, as [`DeliverResult`] gets it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery<Call, Response, Error> {
    /// What was kept of the call.
    pub call: Call,
    /// The task's last record. Its status says how the task ended.
    pub task: TaskRecord,
    /// How the future ended, with what it returned.
    pub ended: Ended<Result<Response, Error>>,
}

impl<Call, Response, Error> Delivery<Call, Response, Error> {
    /// For tests of a deliverer, and for a deliverer that calls another one.
    pub const fn new(call: Call, task: TaskRecord, ended: Ended<Result<Response, Error>>) -> Self {
        Self { call, task, ended }
    }
}

/// Delivers the result of a handed-over call: to an agent's inbox, a queue, a webhook.
///
/// Closures `Fn(TaskRecord, Ended<Result<Response, Error>>) -> impl Future<Output = Result<(), BoxError>>` are
/// deliverers; `()` drops the result.
pub trait DeliverResult<Call, Response, Error> {
    /// Nothing is delivered, and neither method is called: a task that ends costs less then.
    #[doc(hidden)]
    const NOTHING: bool = false;

    /// Called once for each task, however it ended, except for a task that is lost with its runtime.
    ///
    /// The manager calls the method when the work is gone, and polls the returned future when the record is terminal for
    /// all readers. On one process both happen at once. On a [shared](crate::bus::MessageBus::is_shared) bus the future
    /// waits, unpolled, until the end is published; if another process had taken the task for lost, the future is dropped.
    /// So the method itself can make the result smaller before it waits. A closure runs when its future is first polled,
    /// and holds the result until then.
    ///
    /// The future may take as long as
    /// [`max_delivery_time`](crate::manager::TaskManagerBuilder::max_delivery_time) allows, and should retry what can be
    /// retried: a shutdown waits for it. Until it is done the task counts against the limits on running tasks. An error or
    /// a panic is logged and counted, and the delivery is not tried again.
    fn deliver(
        &self,
        delivery: Delivery<Call, Response, Error>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// What is delivered in place of the result when the process dies before the task ends, if the bus is
    /// [shared](crate::bus::MessageBus::is_shared): the process that finds the task lost delivers this, once. The manager
    /// asks when the call moves to the background; the method must not block. Default: nothing.
    fn last_will(&self, call: &Call, task: &TaskRecord) -> Option<bus::Delivery> {
        let _ = (call, task);
        None
    }
}

impl<Call: Send, Response: Send, Error: Send> DeliverResult<Call, Response, Error> for () {
    const NOTHING: bool = true;

    async fn deliver(&self, _: Delivery<Call, Response, Error>) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<F, Fut, E, Call, Response, Error> DeliverResult<Call, Response, Error> for F
where
    F: Fn(TaskRecord, Ended<Result<Response, Error>>) -> Fut + Sync,
    Fut: Future<Output = Result<(), E>> + Send,
    Result<(), E>: Delivered,
    Call: Send,
    Response: Send,
    Error: Send,
{
    async fn deliver(&self, delivery: Delivery<Call, Response, Error>) -> Result<(), BoxError> {
        let Delivery { task, ended, .. } = delivery;
        self(task, ended).await.delivered()
    }
}

/// What the future of a closure that delivers returns: a `Result<(), BoxError>`.
///
/// The compiler checks whether an async block is `Send` without the lifetimes of the types in it. A bound of
/// `Output = Result<(), BoxError>` asks for the lifetime in `BoxError` to be `'static`, so that no async block that calls
/// the service could be given to `tokio::spawn`. The implementation is for each lifetime. It is the only one, so that the
/// compiler knows the type of an `Ok(())`.
#[doc(hidden)]
pub trait Delivered {
    fn delivered(self) -> Result<(), BoxError>;
}

impl<'a> Delivered for Result<(), Box<dyn std::error::Error + Send + Sync + 'a>> {
    fn delivered(self) -> Result<(), BoxError> {
        // Its text is what the manager logs.
        self.map_err(|error| error.to_string().into())
    }
}

/// A hook that has to be set before the layer can be used.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unset;

/// The four hooks of a layer. The methods of [`OffloadLayer`](super::OffloadLayer) replace one at a time.
#[derive(Clone, Copy)]
pub struct Hooks<Describe, Respond, Classify, Deliver> {
    pub(super) describe: Describe,
    pub(super) respond: Respond,
    pub(super) classify: Classify,
    pub(super) deliver: Deliver,
}

impl<M, P, C, D> fmt::Debug for Hooks<M, P, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("describe", &format_args!("{}", std::any::type_name::<M>()))
            .field("respond", &format_args!("{}", std::any::type_name::<P>()))
            .field("classify", &format_args!("{}", std::any::type_name::<C>()))
            .field("deliver", &format_args!("{}", std::any::type_name::<D>()))
            .finish()
    }
}
