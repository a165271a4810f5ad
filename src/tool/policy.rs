use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{ToolCall, ToolStop};
use crate::offload::{DescribeCall, Plan, StayReason};

/// The time at which a tool call is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolRule {
    /// After the timeout of the layer.
    #[default]
    AsLayer,
    /// After a timeout of its own.
    After(Duration),
    /// Never. The caller waits for the tool, as without the layer.
    Never,
}

/// The describing hook for tool calls, with a rule for each tool.
///
/// The rule of the tool's name applies to a call. Without one, the closure decides, and without a closure, the timeout of
/// the layer applies. [`ToolStop`] is never handed over unless a rule says otherwise.
///
/// No rule hands over a call without a [user](ToolCall::user_id), because no user could read or stop its task, nor a call
/// without a [session](ToolCall::session_id), because its result would have no inbox although the placeholder promises it.
/// To hand over calls without a session too, describe calls with a closure, such as
/// `.describe(|call: &ToolCall| Some(call.clone()))`.
///
/// When a call that stays in the foreground takes longer than the timeout of the layer, a line of `tracing` at level `DEBUG`
/// says why it stayed: see [`StayReason`].
///
/// AgentScope never hands over tools that get the live state of the agent, nor tools whose result comes from outside, such
/// as a question to the user. This policy cannot tell them by their name, so give each of them a rule:
///
/// ```
/// use std::time::Duration;
/// use tower_offload::tool::{ToolPolicy, ToolRule};
///
/// let policy = ToolPolicy::new()
///     .never("AskUser")
///     .timeout("Bash", Duration::from_secs(60))
///     .otherwise(|call| if call.name().starts_with("state_") { ToolRule::Never } else { ToolRule::AsLayer });
/// ```
#[derive(Clone)]
#[must_use = "a policy does nothing until it is given to a layer"]
pub struct ToolPolicy {
    rules: HashMap<Box<str>, ToolRule>,
    otherwise: Option<Otherwise>,
}

type Otherwise = Arc<dyn Fn(&ToolCall) -> ToolRule + Send + Sync>;

impl ToolPolicy {
    /// A policy that hands over all tools after the timeout of the layer, except [`ToolStop`].
    pub fn new() -> Self {
        let rules = HashMap::from([(ToolStop::NAME.into(), ToolRule::Never)]);
        Self { rules, otherwise: None }
    }

    /// Never hands over calls of the tool `name`.
    pub fn never(self, name: impl Into<Box<str>>) -> Self {
        self.rule(name, ToolRule::Never)
    }

    /// Hands over calls of the tool `name` after `timeout` instead of the timeout of the layer. [`Duration::ZERO`] hands
    /// over each call that is not ready at once, and [`Duration::MAX`] none.
    pub fn timeout(self, name: impl Into<Box<str>>, timeout: Duration) -> Self {
        self.rule(name, ToolRule::After(timeout))
    }

    /// Sets the rule for calls of the tool `name`. A later rule for the same name replaces it.
    pub fn rule(mut self, name: impl Into<Box<str>>, rule: ToolRule) -> Self {
        self.rules.insert(name.into(), rule);
        self
    }

    /// Sets a closure that decides about calls of tools without a rule. The layer calls it for each of them, before the
    /// tool gets the call, so it should be quick. A later closure replaces it.
    pub fn otherwise(mut self, rule: impl Fn(&ToolCall) -> ToolRule + Send + Sync + 'static) -> Self {
        self.otherwise = Some(Arc::new(rule));
        self
    }

    fn rule_for(&self, call: &ToolCall) -> ToolRule {
        match (self.rules.get(call.name()), &self.otherwise) {
            (Some(rule), _) => *rule,
            (None, Some(otherwise)) => otherwise(call),
            (None, None) => ToolRule::AsLayer,
        }
    }
}

impl Default for ToolPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ToolPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPolicy")
            .field("rules", &self.rules)
            .field("otherwise", &self.otherwise.is_some())
            .finish()
    }
}

static NO_OWNER: StayReason = StayReason::new("its tool call has no user or no session");
static NEVER: StayReason = StayReason::new("a rule of the tool policy keeps it");

impl DescribeCall<ToolCall> for ToolPolicy {
    type Call = ToolCall;

    fn describe_call(&self, call: &ToolCall) -> Plan<ToolCall> {
        if call.user_id().is_empty() || call.session_id().is_empty() {
            return Plan::stay_because(&NO_OWNER);
        }
        let timeout = match self.rule_for(call) {
            ToolRule::AsLayer => None,
            ToolRule::After(timeout) => Some(timeout),
            ToolRule::Never => return Plan::stay_because(&NEVER),
        };
        Plan::offload(call.clone()).with_timeout(timeout)
    }
}
