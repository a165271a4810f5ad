use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use super::start::StartSignal;
use crate::log_limit::LogLimit;
use crate::panics::catch;

/// The decision of a describer about a call: whether the layer may hand it over, when, and the value that the layer keeps
/// while the call runs.
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
/// A plan cannot be taken apart: [`map`](Self::map) changes the kept value and nothing else. So a describer around
/// another one keeps all decisions of the inner one:
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
    /// The layer may hand the call over after its timeout, and keeps `call` for that.
    #[inline]
    pub const fn offload(call: Call) -> Self {
        Self { call: Some(call), terms: Terms { timeout: None, start: None, reason: None } }
    }

    /// The call stays in the foreground, however late it is. For calls that share live state with their caller, calls that
    /// wait for a person, and calls without an owner who could watch the task.
    pub const fn stay() -> Self {
        Self { call: None, terms: Terms { timeout: None, start: None, reason: None } }
    }

    /// As [`stay`](Self::stay). If the call is late, the layer logs the reason.
    pub const fn stay_because(reason: &'static StayReason) -> Self {
        Self { call: None, terms: Terms { timeout: None, start: None, reason: Some(reason) } }
    }

    /// The timeout of this call. `None`, the default: the timeout of the layer.
    #[inline]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.terms.timeout = timeout.into();
        self
    }

    /// The timeout of the call begins when `signal` is given, and not before.
    ///
    /// Use it for a call that still needs its caller, such as an upload whose client stops sending when it sees an
    /// answer. Until the signal is given, the call stays in the foreground, with a timeout of [`Duration::ZERO`] too. A
    /// caller who leaves before that drops the work, under
    /// [`OnDisconnect::HandOver`](super::OnDisconnect::HandOver) too. If the signal does not come within the timeout, the
    /// layer logs the reason, and goes on waiting for the signal.
    ///
    /// On a plan that stays in the foreground it has no effect.
    pub fn start_after(mut self, signal: StartSignal, reason: &'static StayReason) -> Self {
        if self.call.is_some() {
            self.terms.start = Some(signal);
            self.terms.reason = Some(reason);
        }
        self
    }

    /// The same plan with another kept value, which `change` makes from this one. `change` does not run for a call that
    /// stays in the foreground.
    #[inline]
    pub fn map<T>(self, change: impl FnOnce(Call) -> T) -> Plan<T> {
        Plan { call: self.call.map(change), terms: self.terms }
    }

    #[cfg(feature = "http")]
    #[inline(always)]
    pub(crate) const fn call_mut(&mut self) -> Option<&mut Call> {
        self.call.as_mut()
    }

    #[cfg(feature = "http")]
    pub(crate) const fn set_timeout(&mut self, timeout: Duration) {
        self.terms.timeout = Some(timeout);
    }

    /// As [`start_after`](Self::start_after), for a call that does not stay.
    #[cfg(feature = "http")]
    pub(crate) fn set_start(&mut self, signal: StartSignal, reason: &'static StayReason) {
        self.terms.start = Some(signal);
        self.terms.reason = Some(reason);
    }

    /// The kept value. `None`: the call stays in the foreground.
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

/// The types that a closure may return as a [describer](super::DescribeCall): a [`Plan`], or an [`Option`] of the kept
/// value, where `None` means that the call [stays](Plan::stay) in the foreground.
pub trait IntoPlan {
    /// The value that the layer keeps.
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

    /// Whether the timeout has to wait for the signal.
    #[inline]
    pub(super) const fn waits_for_start(&self) -> bool {
        self.start.is_some()
    }

    /// Whether the signal is given by now. If so, the call is from then on like one that waits for no signal.
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
        // A log level must not change how a call ends: without a timer the call has no deadline, and is not logged.
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

/// Why a call stays in the foreground: a text for the log, such as `its request names no user`.
///
/// When a call takes longer than its timeout and stays, the layer writes a line of `tracing` at level `DEBUG` with the text
/// as its field `reason`. Clients choose how many of their calls are late, so the layer writes at most one line in five
/// seconds for each `StayReason`, with the number of lines that it left out. The limit belongs to the value: make it a
/// `static`.
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

    /// Whether any subscriber wants lines of this level. This compares two numbers, and runs no code of a subscriber.
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
