//! How a request becomes a plan.

use http::Request;

use super::super::body::BodyEnd;
use super::super::call::{HttpCall, Parts};
use super::super::caller::{Caller, usable};
use super::super::head::RequestHead;
use super::super::identity::{IdentifyUser, identify_caught};
use super::super::rule::Rule;
use super::super::seen::{self, Found, Seen};
use super::super::stay;
use super::DescribeRequest;
use crate::offload::{DescribeCall, Plan, StartSignal};

/// How much of a path is kept, in bytes. More than a summary shows, so that the cut is still seen as one.
const MAX_PATH_BYTES: usize = 1024;

impl DescribeRequest {
    /// Makes `plan`, which offloads an empty call, the plan of the request.
    fn describe(&self, head: &RequestHead<'_>, plan: &mut Plan<HttpCall>) {
        let found = seen::find(head.headers(), &self.names);
        if let Some(identity) = self.identity.as_custom() {
            return self.describe_custom(head, &found, identity, plan);
        }
        let caller = head.extensions().get::<Caller>();
        let user_id = self.identity.user_id(caller, found.ids[0]);
        self.describe_user(head, &found, caller, user_id, plan);
    }

    #[inline(never)]
    fn describe_custom(
        &self,
        head: &RequestHead<'_>,
        found: &Found<'_>,
        identity: &dyn IdentifyUser,
        plan: &mut Plan<HttpCall>,
    ) {
        let caller = identify_caught(identity, head).ok();
        let user_id = caller.as_ref().map(|caller| caller.user_id().as_bytes());
        self.describe_user(head, found, caller.as_ref(), user_id, plan);
    }

    #[inline(always)]
    fn describe_user(
        &self,
        head: &RequestHead<'_>,
        found: &Found<'_>,
        caller: Option<&Caller>,
        user_id: Option<&[u8]>,
        plan: &mut Plan<HttpCall>,
    ) {
        let [_, session, agent, call_id] = found.ids;
        let Some(user_id) = user_id else { return *plan = Plan::stay_because(&stay::UNIDENTIFIED) };
        let body = head.extensions().get::<BodyEnd>();
        if let Some(rule) = self.first_rule(head, found, self.bodies_are_watched || body.is_some()) {
            return *plan = Plan::stay_because(rule.reason());
        }
        if self.is_of_task_routes(head) {
            return *plan = Plan::stay_because(&stay::TASK_ROUTES);
        }
        if self.only.as_ref().is_some_and(|only| !only(head)) {
            return *plan = Plan::stay_because(&stay::EXCLUDED);
        }
        let start = body.and_then(|BodyEnd(end)| self.start_after(end, head));
        let parts = Parts {
            user_id,
            session_id: self.field(caller.and_then(Caller::session_id), session),
            agent_id: self.field(caller.and_then(Caller::agent_id), agent),
            call_id: call_id.text().unwrap_or_default(),
            method: head.method().as_str(),
            path: cut(head.uri().path()),
        };
        if let Some(timeout) = self.timeout.as_ref().and_then(|timeout| timeout(head)) {
            plan.set_timeout(timeout);
        }
        if let Some(start) = start {
            plan.set_start(start, &stay::BODY_UNREAD);
        }
        let Some(call) = plan.call_mut() else { return };
        if self.tool_name.is_none() && self.summary.is_none() {
            return call.fill(parts);
        }
        let tool_name = self.tool_name.as_ref().and_then(|name| name(head));
        let summary = self.summary.as_ref().and_then(|summary| summary(head));
        call.fill_named(parts, tool_name.as_deref(), summary.as_deref());
    }

    #[inline]
    fn is_of_task_routes(&self, head: &RequestHead<'_>) -> bool {
        let Some(routes) = self.task_routes.as_deref() else { return false };
        let rest = head.uri().path().strip_prefix(routes);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What the call waits for, whose body is watched.
    #[cold]
    fn start_after(&self, end: &StartSignal, head: &RequestHead<'_>) -> Option<StartSignal> {
        let stays = self.rules.as_ref().and_then(|rules| rules[Rule::Body as usize].as_ref());
        let waits = !end.is_given() && stays.is_none_or(|stays| stays(head));
        waits.then(|| end.clone())
    }

    /// The first rule that keeps the call.
    #[inline(always)]
    fn first_rule(&self, head: &RequestHead<'_>, found: &Found<'_>, body_is_watched: bool) -> Option<Rule> {
        let Some(rules) = &self.rules else { return Rule::first(head, found, body_is_watched) };
        Rule::ALL.iter().zip(rules).find_map(|(&rule, replaced)| {
            let applies = !(rule == Rule::Body && body_is_watched)
                && replaced.as_ref().map_or_else(|| rule.applies(head), |stays| stays(head));
            applies.then_some(rule)
        })
    }

    /// What the caller's extension says of a session or an agent, else what the header says.
    fn field<'a>(&self, set: Option<&'a str>, header: Seen<'a>) -> &'a [u8] {
        let field = match set {
            Some(text) => usable(text.as_bytes()),
            None if self.identity.believes_headers() => header.text(),
            None => None,
        };
        field.unwrap_or_default()
    }
}

impl<B> DescribeCall<Request<B>> for DescribeRequest {
    type Call = HttpCall;

    #[inline]
    fn describe_call(&self, request: &Request<B>) -> Plan<HttpCall> {
        let mut plan = Plan::offload(HttpCall::empty());
        self.describe(&RequestHead::from(request), &mut plan);
        plan
    }
}

fn cut(path: &str) -> &str {
    if path.len() <= MAX_PATH_BYTES {
        return path;
    }
    let end = (0..=MAX_PATH_BYTES).rev().find(|&end| path.is_char_boundary(end));
    &path[..end.unwrap_or(0)]
}
