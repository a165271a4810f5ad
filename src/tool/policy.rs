use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{ToolCall, ToolStop};
use crate::offload::{DescribeCall, OffloadCall};
use crate::task::TaskMeta;

/// When a tool call is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolRule {
    /// After the timeout of the layer.
    #[default]
    AsLayer,
    /// After a timeout of its own.
    After(Duration),
    /// Never: its caller waits for it, as without the layer.
    Never,
}

/// The describing hook for tool calls, with a rule for each tool.
///
/// A call is judged by the rule of its tool's name; else by the closure, if there is one; else it is treated as the
/// layer says. [`ToolStop`] is never handed over unless a rule says otherwise.
///
/// Two calls are never handed over, even if a rule says so: one without a [user](ToolCall::user_id), because no user
/// could see or stop it, and one without a [session](ToolCall::session_id), because its result would have no inbox
/// although the placeholder announces it. To hand those over too, describe calls with a closure, as in
/// `.describe(|call: &ToolCall| Some(call.clone()))`.
///
/// AgentScope never hands over tools that get the agent's live state, and tools whose result comes from outside, such
/// as a question to the user. Here they have to be named, since a tool's name says nothing about it:
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
    /// All tools as the layer says, but [`ToolStop`] never.
    pub fn new() -> Self {
        let rules = HashMap::from([(ToolStop::NAME.into(), ToolRule::Never)]);
        Self { rules, otherwise: None }
    }

    /// Never hands over calls of the tool `name`.
    pub fn never(self, name: impl Into<Box<str>>) -> Self {
        self.rule(name, ToolRule::Never)
    }

    /// Hands over calls of the tool `name` after a timeout of their own. With [`Duration::ZERO`] a call that is not
    /// ready at once is handed over; with [`Duration::MAX`] none is.
    pub fn timeout(self, name: impl Into<Box<str>>, timeout: Duration) -> Self {
        self.rule(name, ToolRule::After(timeout))
    }

    /// The rule for calls of the tool `name`; the last one counts.
    pub fn rule(mut self, name: impl Into<Box<str>>, rule: ToolRule) -> Self {
        self.rules.insert(name.into(), rule);
        self
    }

    /// Asks a closure about the calls of tools that have no rule. It runs for each of them, before the tool gets the
    /// call, and should be quick. The last closure counts.
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

impl DescribeCall<ToolCall> for ToolPolicy {
    type Call = DescribedCall;

    fn describe_call(&self, call: &ToolCall) -> Option<DescribedCall> {
        if call.user_id().is_empty() || call.session_id().is_empty() {
            return None;
        }
        let timeout = match self.rule_for(call) {
            ToolRule::AsLayer => None,
            ToolRule::After(timeout) => Some(timeout),
            ToolRule::Never => return None,
        };
        Some(DescribedCall { call: call.clone(), timeout })
    }
}

/// What [`ToolPolicy`] keeps of a call while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedCall {
    call: ToolCall,
    timeout: Option<Duration>,
}

impl DescribedCall {
    /// The call.
    #[must_use]
    pub const fn call(&self) -> &ToolCall {
        &self.call
    }
}

impl OffloadCall for DescribedCall {
    fn meta(&self) -> TaskMeta {
        self.call.meta()
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}
