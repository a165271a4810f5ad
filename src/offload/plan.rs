use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use super::start::StartSignal;
use crate::log_limit::LogLimit;
use crate::panics::catch;

/// What a describer decides about a call: whether it may be handed over, when, and what is kept of it.
///
/// ```
/// use std::time::Duration;
/// use tower_offload::TaskMeta;
/// use tower_offload::offload::{Plan, StayReason};
///
/// struct Request {
///     user: Option<String>,
///     is_urgent: bool,
/// }
///
/// static NO_USER: StayReason = StayReason::new("its request names no user");
///
/// fn describe(request: &Request) -> Plan<TaskMeta> {
///     let Some(user) = &request.user else { return Plan::stay_because(&NO_USER) };
///     Plan::offload(TaskMeta::new(&**user, "report"))
///         .with_timeout(request.is_urgent.then_some(Duration::from_secs(1)))
/// }
/// ```
///
/// A plan cannot be taken apart: [`map`](Self::map) changes what is kept of the call, and leaves the rest as it is. So
/// a describer around another one keeps its decisions:
///
/// ```
/// use tower_offload::TaskMeta;
/// use tower_offload::offload::{DescribeCall, OffloadCall, Plan};
///
/// struct OfTenant<Call> {
///     call: Call,
///     tenant: &'static str,
/// }
///
/// impl<Call: OffloadCall> OffloadCall for OfTenant<Call> {
///     fn meta(&self) -> TaskMeta {
///         self.call.meta().with_agent(self.tenant)
///     }
/// }
///
/// fn of_tenant<R, D: DescribeCall<R>>(
///     describe: D,
///     tenant: &'static str,
/// ) -> impl Fn(&R) -> Plan<OfTenant<D::Call>> {
///     move |request| describe.describe_call(request).map(|call| OfTenant { call, tenant })
/// }
/// ```
#[must_use = "a plan does nothing until the layer gets it"]
pub struct Plan<Call> {
    /// `None`: the call stays in the foreground.
    pub(super) call: Option<Call>,
    pub(super) terms: Terms,
}

/// When a call may be handed over.
#[derive(Default)]
pub(super) struct Terms {
    /// `None`: that of the layer.
    timeout: Option<Duration>,
    /// The timeout begins when this is given. `None`: with the call.
    start: Option<StartSignal>,
    /// Why the call stays in the foreground, or its timeout does not begin. `None` once that was logged.
    reason: Option<&'static StayReason>,
}

impl<Call> Plan<Call> {
    /// The call may be handed over after the timeout of the layer.
    #[inline]
    pub const fn offload(call: Call) -> Self {
        Self { call: Some(call), terms: Terms { timeout: None, start: None, reason: None } }
    }

    /// The call stays in the foreground, however late it is. For calls that share live state with their caller, or that
    /// wait for a person, or that have no owner who can watch them.
    pub const fn stay() -> Self {
        Self { call: None, terms: Terms { timeout: None, start: None, reason: None } }
    }

    /// As [`stay`](Self::stay). If the call is late, the layer logs the reason.
    pub const fn stay_because(reason: &'static StayReason) -> Self {
        Self { call: None, terms: Terms { timeout: None, start: None, reason: Some(reason) } }
    }

    /// How long this call may take before it is handed over; `None` for as long as the layer says, which is the default.
    #[inline]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.terms.timeout = timeout.into();
        self
    }

    /// The timeout of the call begins when `signal` is given, and not before.
    ///
    /// It is for a call that still needs its caller, and so is not to be answered by a placeholder: an upload whose
    /// client stops sending when it sees an answer, for example. Until the signal is given the call stays in the
    /// foreground, with a timeout of [`Duration::ZERO`] too. If its caller leaves before that, the work is dropped,
    /// under [`OnDisconnect::HandOver`](super::OnDisconnect::HandOver) too. If the signal is not given within the
    /// timeout, the layer logs the reason.
    ///
    /// A plan that stays is not changed.
    pub fn start_after(mut self, signal: StartSignal, reason: &'static StayReason) -> Self {
        if self.call.is_some() {
            self.terms.start = Some(signal);
            self.terms.reason = Some(reason);
        }
        self
    }

    /// The same plan, with what `change` makes of what is kept of the call. A call that stays in the foreground is none
    /// that it is asked for.
    #[inline]
    pub fn map<T>(self, change: impl FnOnce(Call) -> T) -> Plan<T> {
        Plan { call: self.call.map(change), terms: self.terms }
    }

    /// What is kept of the call; `None` if it stays in the foreground.
    #[must_use]
    pub const fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }
}

/// `None` [stays](Plan::stay) in the foreground.
impl<Call> From<Option<Call>> for Plan<Call> {
    #[inline]
    fn from(call: Option<Call>) -> Self {
        Self { call, terms: Terms::default() }
    }
}

impl<Call: fmt::Debug> fmt::Debug for Plan<Call> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("call", &self.call)
            .field("timeout", &self.terms.timeout)
            .field("start", &self.terms.start)
            .field("reason", &self.terms.reason)
            .finish()
    }
}

/// What a closure that is a [describer](super::DescribeCall) may answer: a [`Plan`], or an [`Option`] of what is kept
/// of the call, where `None` [stays](Plan::stay) in the foreground.
pub trait IntoPlan {
    /// What is kept of the call.
    type Call;

    /// The plan.
    fn into_plan(self) -> Plan<Self::Call>;
}

impl<Call> IntoPlan for Plan<Call> {
    type Call = Call;

    #[inline]
    fn into_plan(self) -> Self {
        self
    }
}

impl<Call> IntoPlan for Option<Call> {
    type Call = Call;

    #[inline]
    fn into_plan(self) -> Plan<Call> {
        self.into()
    }
}

impl Terms {
    #[inline]
    pub(super) fn timeout(&self, of_layer: Duration) -> Duration {
        self.timeout.unwrap_or(of_layer)
    }

    /// Whether the timeout may not begin yet.
    #[inline]
    pub(super) const fn waits_for_start(&self) -> bool {
        self.start.is_some()
    }

    /// Whether the signal is given by now. From then on the call waits for none.
    #[cold]
    pub(super) fn poll_start(&mut self, cx: &mut Context<'_>) -> bool {
        let is_given = self.start.as_ref().is_none_or(|start| start.poll(cx).is_ready());
        if is_given {
            self.start = None;
            self.reason = None;
        }
        is_given
    }

    /// Whether a line is to be logged if the call is late.
    #[inline]
    pub(super) fn has_reason_to_log(&self) -> bool {
        self.reason.is_some() && StayReason::is_logged()
    }

    /// Logs the reason once the call is late. `poll_deadline` polls a deadline that is for this alone.
    #[cold]
    pub(super) fn poll_reason(&mut self, poll_deadline: impl FnOnce(Option<Duration>) -> Poll<()>) {
        // What is logged must not change how a call ends: where there is no timer, it has no deadline.
        let has_runtime = Handle::try_current().is_ok();
        let polled = has_runtime.then(|| catch(|| poll_deadline(self.timeout)).ok()).flatten();
        if polled == Some(Poll::Pending) {
            return;
        }
        if let Some(reason) = self.reason.take()
            && polled.is_some()
        {
            reason.log();
        }
    }
}

/// Why a call stays in the foreground: a text for one line of the log, such as `its request names no user`.
///
/// When a call is later than its timeout and stays, the layer writes a line of `tracing` at level `DEBUG` that has the
/// text as its field `reason`: at most one line in five seconds for each `StayReason`, with the number of those that were
/// left out, since clients choose how many of their calls are late. Make it a `static`, so that there is one.
pub struct StayReason {
    text: &'static str,
    limit: LogLimit,
}

impl StayReason {
    /// A reason.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self { text, limit: LogLimit::new() }
    }

    /// Whether any subscriber wants lines of this level. It runs no code of theirs, and costs next to nothing.
    #[inline]
    fn is_logged() -> bool {
        use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

        tracing::Level::DEBUG <= STATIC_MAX_LEVEL && tracing::Level::DEBUG <= LevelFilter::current()
    }

    fn log(&self) {
        self.limit.write(|left_out| {
            tracing::debug!(reason = self.text, left_out, "a late call stays in the foreground");
        });
    }
}

impl fmt::Debug for StayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StayReason").field(&self.text).finish()
    }
}
