//! What becomes of a tool call that is too slow: placeholder, record, hint.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::keys;
use tower_offload::offload::{ErrIsFailure, OnDisconnect};
use tower_offload::task::{FailureReason, Outcome, Scope};
use tower_offload::tool::{ClassifyToolState, ToolState};
use tower_offload::{OffloadLayer, TaskManager, TaskStatus, ToolCall, ToolResponse, cancellation_token};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_quick_enough_answers_itself() {
    let manager = TaskManager::new();
    let response = run(&manager, call("t", "{}"), |call: ToolCall| async move {
        tokio::time::sleep(secs(9)).await;
        Ok::<_, Infallible>(ToolResponse::text(call.id(), "done"))
    })
    .await
    .unwrap();
    assert_eq!(response, ToolResponse::text("call_1", "done"));
    let error = run(&manager, call("t", "{}"), |_| async { Err("no") }).await;
    assert_eq!(error, Err("no"));
    assert_eq!(manager.stats().admitted, 0);
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn the_placeholder_has_agentscopes_words_and_both_ids() {
    let manager = TaskManager::new();
    let response = run(&manager, call("slow — tool", "{}"), |_| endless()).await.unwrap();
    let task = task_id(&response);
    let expected = format!(
        "<system-reminder>Tool 'slow — tool' is running in background (id={task}, call_id=call_1) for over 10.0s. You \
         will be notified automatically when it finishes, so **DO NOT** poll, query, or wait for the result yourself. \
         **DO NOT** call any waiting tool such as `bash sleep`. You have exactly two valid options:
1. Continue with other independent tasks and ignore this tool for now; or
2. If there is nothing else to do, simply give a text reply without calling any tool, which ends the current \
         reasoning loop — just do nothing and end this run.
</system-reminder>"
    );
    assert_eq!(text(&response), expected);
    assert_eq!(response.id, "call_1");
    assert_eq!(response.state, ToolState::Success);
    assert_eq!(Value::Object(response.metadata), json!({"call_id": "call_1", "task_id": task.to_string()}));
}

#[tokio::test(start_paused = true)]
async fn the_record_describes_the_call() {
    let manager = TaskManager::new();
    let task = offload(&manager, endless()).await;
    let record = record(&manager, task).await;
    assert!(is_running(&record));
    let meta = &record.meta;
    let texts = [meta.user_id(), meta.session_id(), meta.agent_id(), meta.tool_name()];
    assert_eq!(texts, ["alice", "s1", "agent", "slow_tool"]);
    assert_eq!(meta.call_id(), Some("call_1"));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_id_is_named_by_its_task_alone() {
    let manager = TaskManager::new();
    let anonymous = call("t", "{}").with_id("");
    let response = run(&manager, anonymous, |_| late(ToolResponse::text("", "x"))).await.unwrap();
    let task = task_id(&response);
    assert!(text(&response).contains(&format!("(id={task}) for over")), "{response:?}");
    assert_eq!(response.metadata.len(), 1);
    ended(&manager, task).await;
    let hint = only_hint(&manager).await;
    assert!(hint_text(&hint).contains(&format!("(task_id={task}) has completed")), "{hint}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_does_its_work_is_completed_and_its_result_stays_readable() {
    let manager = TaskManager::new();
    let response = ToolResponse::text("call_1", "42").with_metadata("exit_code", 0);
    let task = offload(&manager, late(response.clone())).await;
    let record = ended(&manager, task).await;
    assert_eq!((record.status, record.error_summary), (TaskStatus::Completed, None));
    for _ in 0..2 {
        let result = manager.result(&scope(), task).await.unwrap().expect("it was kept");
        assert_eq!(result.content_type(), "application/json");
        assert_eq!(serde_json::from_slice::<ToolResponse>(result.body()).unwrap(), response);
    }
    assert!(manager.result(&Scope::user("bob"), task).await.unwrap().is_none());
    let hint = hint_text(&only_hint(&manager).await);
    assert_eq!(
        hint,
        format!(
            "<system-notification>Tool 'slow_tool' running in background (id=call_1, task_id={task}) has \
             completed.\n\nResult:\n\n42</system-notification>"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_raises_has_failed_in_the_record_and_in_the_hint() {
    let manager = TaskManager::new();
    let task = offload(&manager, async {
        tokio::time::sleep(secs(20)).await;
        Err(BoxError::from("disk full"))
    })
    .await;
    let record = ended(&manager, task).await;
    assert_eq!((record.status, record.failure_reason), (TaskStatus::Failed, Some(FailureReason::Error)));
    assert_eq!(record.error_summary.as_deref(), Some("disk full"));
    assert!(manager.result(&scope(), task).await.unwrap().is_none());
    assert_eq!(
        hint_text(&only_hint(&manager).await),
        format!(
            "<system-notification>Tool 'slow_tool' running in background (id=call_1, task_id={task}) has \
             failed.\n\nError:\n\ndisk full</system-notification>"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_an_error_has_failed_and_its_text_is_delivered_whole() {
    for state in [ToolState::Error, ToolState::Denied] {
        let manager = TaskManager::new();
        let long = "é".repeat(600);
        let response = ToolResponse::new("call_1", state, vec![long.as_str().into(), "and more".into()]);
        let task = offload(&manager, late(response.clone())).await;
        let record = ended(&manager, task).await;
        assert_eq!((record.status, record.failure_reason), (TaskStatus::Failed, Some(FailureReason::Error)));
        assert_eq!(record.error_summary.as_deref(), Some("é".repeat(512).as_str()));
        let kept = manager.result(&scope(), task).await.unwrap().expect("failures can be read too");
        assert_eq!(serde_json::from_slice::<ToolResponse>(kept.body()).unwrap(), response);
        let hint = hint_text(&only_hint(&manager).await);
        assert!(hint.contains(&format!("has failed.\n\nError:\n\n{long}|and more</system-n")), "{hint}");
        assert!(!hint.contains("completed"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_words_is_told_all_the_same() {
    for content in [vec![], vec!["".into()]] {
        let manager = TaskManager::new();
        let task = offload(&manager, late(ToolResponse::new("call_1", ToolState::Error, content))).await;
        let record = ended(&manager, task).await;
        let words = "the tool answered with the state error and no text";
        assert_eq!(record.error_summary.as_deref(), Some(words));
        let hint = hint_text(&only_hint(&manager).await);
        assert!(hint.ends_with(&format!("has failed.\n\nError:\n\n{words}</system-notification>")), "{hint}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_panics_has_failed_with_the_message() {
    let manager = TaskManager::new();
    let task = offload(&manager, async {
        tokio::time::sleep(secs(20)).await;
        panic!("index out of range");
    })
    .await;
    let record = ended(&manager, task).await;
    assert_eq!((record.status, record.failure_reason), (TaskStatus::Failed, Some(FailureReason::Panic)));
    let hint = hint_text(&only_hint(&manager).await);
    assert!(
        hint.ends_with(" has failed: it panicked.\n\nError:\n\nindex out of range</system-notification>"),
        "{hint}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_at_the_run_time_limit_has_failed_for_that_reason() {
    let manager = TaskManager::builder().max_run_time(secs(60)).build();
    let task = offload(&manager, endless()).await;
    let record = ended(&manager, task).await;
    assert_eq!((record.status, record.failure_reason), (TaskStatus::Failed, Some(FailureReason::TimedOut)));
    let hint = hint_text(&only_hint(&manager).await);
    assert!(
        hint.ends_with(
            " has failed: it was stopped at the run-time limit.\n\nError:\n\n\
             still running in the background after 60s</system-notification>"
        ),
        "{hint}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopped_tool_is_cancelled_and_nothing_is_delivered() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let manager = TaskManager::new();
    let gone = Arc::new(AtomicBool::new(false));
    let guard = Dropped(Arc::clone(&gone));
    let task = offload(&manager, async move {
        let _guard = guard;
        endless().await
    })
    .await;
    let answer = stop(&manager, task).await;
    assert_eq!(text(&answer), format!("Task {task} stopped successfully."));
    assert!(gone.load(Ordering::Relaxed), "the future was still there");
    let record = ended(&manager, task).await;
    assert_eq!((record.status, record.failure_reason), (TaskStatus::Cancelled, None));
    assert_silent(&manager).await;
}

/// What AgentScope's toolkit does with a cancel: it makes an ordinary response of it.
#[tokio::test(start_paused = true)]
async fn a_stopped_tool_that_answers_is_cancelled_and_nothing_is_delivered() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let task = offload(&manager, async {
        cancellation_token().cancelled().await;
        tokio::time::sleep(secs(1)).await;
        Ok(ToolResponse::interrupted("call_1", "interrupted by the user"))
    })
    .await;
    let answer = stop(&manager, task).await;
    assert_eq!(text(&answer), format!("Task {task} stopped successfully."));
    assert_eq!(ended(&manager, task).await.status, TaskStatus::Cancelled);
    assert!(manager.result(&scope(), task).await.unwrap().is_some(), "what it had to say can be read");
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_interrupted_although_nobody_asked_has_failed() {
    let manager = TaskManager::new();
    let task = offload(&manager, late(ToolResponse::interrupted("call_1", "half of it"))).await;
    assert_eq!(ended(&manager, task).await.status, TaskStatus::Failed);
    let hint = hint_text(&only_hint(&manager).await);
    assert!(hint.contains("has failed.\n\nError:\n\nhalf of it<"), "{hint}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_swallows_its_stop_and_does_its_work_has_completed() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let task = offload(&manager, async {
        cancellation_token().cancelled().await;
        late(ToolResponse::text("call_1", "42")).await
    })
    .await;
    let answer = stop(&manager, task).await;
    assert_eq!(
        text(&answer),
        format!("Task {task} was asked to stop. It has not ended yet and is still stopping.")
    );
    let record = ended(&manager, task).await;
    assert_eq!(record.status, TaskStatus::Completed);
    assert!(record.cancel_requested_at.is_some());
    assert!(hint_text(&only_hint(&manager).await).contains("has completed.\n\nResult:\n\n42<"));
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_is_never_announced_as_completed_whatever_it_returned() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT)
        .classify(|_: Result<&ToolResponse, &BoxError>| Outcome::Cancelled);
    let tool = service_fn(|_: ToolCall| async {
        cancellation_token().cancelled().await;
        Ok::<_, BoxError>(ToolResponse::text("call_1", "42"))
    });
    let service = ServiceBuilder::new().layer(layer).service(tool);
    let task = task_id(&service.oneshot(call("t", "{}")).await.unwrap());
    stop(&manager, task).await;
    assert_eq!(ended(&manager, task).await.status, TaskStatus::Cancelled);
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn the_verdict_of_another_classifier_is_what_the_hint_says() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT);
    let tool = service_fn(|call: ToolCall| async move {
        tokio::time::sleep(secs(20)).await;
        if call.name() == "err" { Err("gone") } else { Ok(ToolResponse::error("call_1", "404")) }
    });

    let lenient = layer.clone().classify(|_: Result<&ToolResponse, &&str>| Outcome::Completed);
    for (name, text) in [("err", "gone"), ("error", "404")] {
        let service = ServiceBuilder::new().layer(lenient.clone()).service(tool);
        let task = task_id(&service.oneshot(call(name, "{}")).await.unwrap());
        assert_eq!(ended(&manager, task).await.status, TaskStatus::Completed);
        let hint = hint_text(&only_hint(&manager).await);
        assert!(hint.contains(&format!("has completed.\n\nResult:\n\n{text}<")), "{hint}");
    }

    let service = ServiceBuilder::new().layer(layer.classify(ErrIsFailure)).service(tool);
    let task = task_id(&service.oneshot(call("error", "{}")).await.unwrap());
    assert_eq!(ended(&manager, task).await.status, TaskStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_a_shutdown_stops_is_announced_as_that() {
    let manager = TaskManager::new();
    let task = offload(&manager, endless()).await;
    let report = manager.shutdown(secs(1)).await;
    assert_eq!((report.cancelled, report.undelivered), (1, 0));
    let record = record(&manager, task).await;
    assert_eq!(
        (record.status, record.failure_reason),
        (TaskStatus::Cancelled, Some(FailureReason::Shutdown))
    );
    assert_eq!(
        hint_text(&only_hint(&manager).await),
        format!(
            "<system-notification>Tool 'slow_tool' running in background (id=call_1, task_id={task}) was stopped \
             because the process shut down.</system-notification>"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_agent_leaves_is_dropped_or_handed_over_and_then_delivered() {
    for (on_disconnect, admitted) in [(OnDisconnect::Cancel, 0), (OnDisconnect::HandOver, 1)] {
        let manager = TaskManager::new();
        let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT).on_disconnect(on_disconnect);
        let tool = service_fn(|_: ToolCall| late(ToolResponse::text("call_1", "42")));
        let call = ServiceBuilder::new().layer(layer).service(tool).oneshot(call("t", "{}"));
        assert!(tokio::time::timeout(secs(1), call).await.is_err());
        tokio::time::sleep(secs(60)).await;
        assert_eq!(manager.stats().admitted, admitted);
        assert_eq!(inbox(&**manager.bus()).await.len() as u64, admitted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_admitted_is_waited_for() {
    let manager = TaskManager::builder().max_running(0).build();
    let response =
        run(&manager, call("t", "{}"), |_| late(ToolResponse::text("call_1", "42"))).await.unwrap();
    assert_eq!(text(&response), "42");
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn the_hooks_go_with_a_description_of_ones_own() {
    let manager = TaskManager::new();
    let layer = OffloadLayer::for_tools(manager.clone(), TIMEOUT)
        .describe(|call: &ToolCall| Some(call.clone()))
        .classify(ClassifyToolState);
    let tool = service_fn(|_: ToolCall| late(ToolResponse::text("call_1", "42")));
    let call = ToolCall::new("t", "{}").with_id("call_1").with_user("alice");
    let service = ServiceBuilder::new().layer(layer).service(tool);
    let task = task_id(&service.oneshot(call).await.unwrap());
    let record = manager.wait(&Scope::user("alice"), task).await.unwrap().unwrap();
    assert_eq!(record.status, TaskStatus::Completed);
    // A call without a session has no inbox. That of the empty session would be everybody's.
    tokio::time::sleep(TIMEOUT).await;
    assert!(manager.bus().drain(&keys::inbox(""), 10).await.unwrap().is_empty());
}
