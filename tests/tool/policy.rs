//! Which calls are handed over, and when.

use std::time::Duration;

use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::tool::{ToolPolicy, ToolRule};
use tower_offload::{OffloadLayer, TaskManager, ToolCall, ToolResponse, ToolStop};

use crate::common::*;

/// After how long the answer came, and whether it was a placeholder. The tool takes 20 seconds.
async fn answer(policy: ToolPolicy, call: ToolCall) -> (Duration, bool) {
    let manager = TaskManager::new();
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT).describe(policy);
    let tool = service_fn(|_: ToolCall| late(ToolResponse::text("call_1", "42")));
    let start = Instant::now();
    let response = ServiceBuilder::new().layer(layer).service(tool).oneshot(call).await.unwrap();
    let took = Duration::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap() / 10 * 10);
    let placeholder = text(&response) != "42";
    assert_eq!(manager.stats().admitted, u64::from(placeholder));
    if placeholder && took < TIMEOUT {
        assert!(text(&response).contains(&format!("for over {:?}s. ", took.as_secs_f64())), "{response:?}");
    }
    (took, placeholder)
}

const WAITED: (Duration, bool) = (secs(20), false);
const OFFLOADED: (Duration, bool) = (TIMEOUT, true);

#[tokio::test(start_paused = true)]
async fn tools_without_a_rule_are_as_the_layer_says() {
    assert_eq!(answer(ToolPolicy::new(), call("Bash", "{}")).await, OFFLOADED);
}

#[tokio::test(start_paused = true)]
async fn a_tool_can_be_kept_in_the_foreground() {
    let policy = ToolPolicy::new().never("AskUser");
    assert_eq!(answer(policy.clone(), call("AskUser", "{}")).await, WAITED);
    assert_eq!(answer(policy, call("askuser", "{}")).await, OFFLOADED);
}

#[tokio::test(start_paused = true)]
async fn a_tool_can_have_a_timeout_of_its_own() {
    let policy = ToolPolicy::new()
        .timeout("Quick", Duration::from_millis(200))
        .timeout("Zero", Duration::ZERO)
        .timeout("Long", Duration::MAX);
    assert_eq!(answer(policy.clone(), call("Quick", "{}")).await, (Duration::from_millis(200), true));
    assert_eq!(answer(policy.clone(), call("Zero", "{}")).await, (Duration::ZERO, true));
    assert_eq!(answer(policy.clone(), call("Long", "{}")).await, WAITED);
    assert_eq!(answer(policy, call("Other", "{}")).await, OFFLOADED);
}

#[tokio::test(start_paused = true)]
async fn a_closure_decides_about_the_rest() {
    let policy =
        ToolPolicy::new().never("A").rule("B", ToolRule::AsLayer).otherwise(|call| match call.input() {
            "never" => ToolRule::Never,
            "after" => ToolRule::After(secs(1)),
            _ => ToolRule::AsLayer,
        });
    assert_eq!(answer(policy.clone(), call("A", "after")).await, WAITED);
    assert_eq!(answer(policy.clone(), call("B", "never")).await, OFFLOADED);
    assert_eq!(answer(policy.clone(), call("C", "never")).await, WAITED);
    assert_eq!(answer(policy.clone(), call("C", "after")).await, (secs(1), true));
    assert_eq!(answer(policy, call("C", "")).await, OFFLOADED);
}

#[tokio::test(start_paused = true)]
async fn tool_stop_is_never_handed_over_unless_told_so() {
    let stop = || call(ToolStop::NAME, "{}");
    assert_eq!(answer(ToolPolicy::new(), stop()).await, WAITED);
    assert_eq!(answer(ToolPolicy::default().otherwise(|_| ToolRule::After(secs(1))), stop()).await, WAITED);
    assert_eq!(answer(ToolPolicy::new().rule(ToolStop::NAME, ToolRule::AsLayer), stop()).await, OFFLOADED);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_nobody_is_never_handed_over() {
    let policy = ToolPolicy::new().timeout("T", secs(1));
    assert_eq!(answer(policy.clone(), call("T", "{}").with_user("")).await, WAITED);
    assert_eq!(answer(policy.clone(), call("T", "{}").with_session("")).await, WAITED);
    assert_eq!(answer(policy, call("T", "{}").with_agent("")).await, (secs(1), true));
}
