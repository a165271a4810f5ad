//! `ToolStop`: what it says is what is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_offload::bus::{PubSub, Registry, SubscriptionEvent, keys};
use tower_offload::tool::ToolState;
use tower_offload::{
    OffloadLayer, TaskId, TaskManager, TaskMeta, TaskStatus, ToolCall, ToolResponse, ToolStop,
    cancellation_token,
};

use crate::common::*;
use crate::flaky_bus::FlakyBus;

fn assert_success(response: &ToolResponse, expected: &str) {
    assert_eq!((response.state, text(response)), (ToolState::Success, expected));
    assert_eq!(response.id, "call_2");
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_says_that_the_task_has_finished_and_the_record_stays() {
    let manager = TaskManager::new();
    let task = offload(&manager, endless()).await;
    let first = stop(&manager, task).await;
    assert_success(&first, &format!("Task {task} stopped successfully."));
    assert_eq!(Value::Object(first.metadata), json!({"task_id": task.to_string(), "status": "cancelled"}));
    let before = record(&manager, task).await;
    for _ in 0..2 {
        let again = stop(&manager, task).await;
        assert_success(&again, &format!("Task {task} has already finished. Its status is cancelled."));
        assert_eq!(record(&manager, task).await, before);
    }
    assert_eq!(manager.list(&scope()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_is_not_stopped() {
    for (response, status) in
        [(ToolResponse::text("", "x"), "completed"), (ToolResponse::error("", "x"), "failed")]
    {
        let manager = TaskManager::new();
        let task = offload(&manager, late(response)).await;
        let before = ended(&manager, task).await;
        let answer = stop(&manager, task).await;
        assert_success(&answer, &format!("Task {task} has already finished. Its status is {status}."));
        assert_eq!(answer.metadata["status"], status);
        assert_eq!(record(&manager, task).await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_ignores_its_stop_is_tracked_until_it_is_gone() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let task = offload(&manager, endless()).await;
    let start = Instant::now();
    let answer = stop(&manager, task).await;
    assert!((secs(5)..secs(6)).contains(&start.elapsed()));
    assert_success(
        &answer,
        &format!("Task {task} was asked to stop. It has not ended yet and is still stopping."),
    );
    assert_eq!(answer.metadata["status"], "running");
    let stopping = record(&manager, task).await;
    assert!(is_running(&stopping) && stopping.cancel_requested_at.is_some());
    assert_eq!(manager.stats().running, 1);

    let again = stop(&manager, task).await;
    assert!(text(&again).ends_with("is still stopping."), "{again:?}");
    assert_eq!(record(&manager, task).await.cancel_requested_at, stopping.cancel_requested_at);

    assert_eq!(ended(&manager, task).await.status, TaskStatus::Cancelled);
    assert!((secs(60)..secs(61)).contains(&start.elapsed()));
    let last = stop(&manager, task).await;
    assert_success(&last, &format!("Task {task} has already finished. Its status is cancelled."));
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn stopped_is_said_as_soon_as_the_future_is_gone() {
    let manager = TaskManager::builder().cancel_grace(secs(2)).build();
    let task = offload(&manager, endless()).await;
    let start = Instant::now();
    assert_success(&stop(&manager, task).await, &format!("Task {task} stopped successfully."));
    assert!((secs(2)..secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_by_itself_meanwhile_is_not_called_stopped() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let done = |response: Result<ToolResponse, BoxError>| async {
        cancellation_token().cancelled().await;
        tokio::time::sleep(secs(1)).await;
        response
    };
    let task = offload(&manager, done(Ok(ToolResponse::text("call_1", "42")))).await;
    let says = |task: TaskId, status| {
        format!("Task {task} finished by itself before it was stopped. Its status is {status}.")
    };
    assert_success(&stop(&manager, task).await, &says(task, "completed"));
    let task = offload(&manager, done(Err("no".into()))).await;
    assert_success(&stop(&manager, task).await, &says(task, "failed"));
    ended(&manager, task).await;
    assert_eq!(inbox(&**manager.bus()).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_record_is_not_kept_is_said_to_have_stopped() {
    let manager = TaskManager::builder().max_retained(0).build();
    let task = offload(&manager, endless()).await;
    assert_success(&stop(&manager, task).await, &format!("Task {task} stopped successfully."));
    assert_eq!(stop(&manager, task).await.state, ToolState::Error);
}

#[tokio::test(start_paused = true)]
async fn the_wait_can_be_set() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let task = offload(&manager, endless()).await;
    let start = Instant::now();
    let tool = ToolStop::new(manager.clone()).max_wait(Duration::ZERO);
    let answer = tool.run(&stop_call(&task.to_string())).await;
    assert!(text(&answer).ends_with("is still stopping."), "{answer:?}");
    assert!(start.elapsed() < secs(1));
    let answer = tool.max_wait(Duration::MAX).run(&stop_call(&task.to_string())).await;
    assert_success(&answer, &format!("Task {task} stopped successfully."));
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_caller_leaves_is_a_stop() {
    let manager = TaskManager::builder().cancel_grace(secs(60)).build();
    let task = offload(&manager, endless()).await;
    assert!(tokio::time::timeout(secs(1), stop(&manager, task)).await.is_err());
    assert_eq!(ended(&manager, task).await.status, TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_others_do_not_exist_byte_for_byte() {
    let manager = TaskManager::new();
    let task = offload(&manager, endless()).await;
    let tool = ToolStop::new(manager.clone());
    let missing = TaskId::new().to_string();
    let not_found = |id: &str| {
        let text = format!("TaskNotFoundError: The task {id} does not exist.");
        serde_json::to_string(&ToolResponse::error("call_2", text).with_metadata("task_id", id)).unwrap()
    };
    let as_json = async |call: ToolCall| serde_json::to_string(&tool.run(&call).await).unwrap();

    assert_eq!(as_json(stop_call(&missing)).await, not_found(&missing));
    let id = task.to_string();
    for stranger in [
        stop_call(&id).with_user("bob"),
        stop_call(&id).with_session("s2"),
        stop_call(&id).with_user(""),
        stop_call(&id).with_session(""),
    ] {
        assert_eq!(as_json(stranger).await, not_found(&id));
    }
    // One task has one address.
    for alias in [id.to_uppercase(), format!(" {id}"), task.as_uuid().simple().to_string()] {
        assert_eq!(as_json(stop_call(&alias)).await, not_found(&alias));
    }
    let untouched = record(&manager, task).await;
    assert!(is_running(&untouched) && untouched.cancel_requested_at.is_none());

    assert!(text(&stop(&manager, task).await).ends_with("stopped successfully."));
    assert_eq!(as_json(stop_call(&id).with_user("bob")).await, not_found(&id), "ended ones neither");
}

#[tokio::test(start_paused = true)]
async fn what_another_process_runs_is_asked_over_the_bus() {
    let bus = std::sync::Arc::new(FlakyBus::default());
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let mut cancels = bus.subscribe(&[keys::TASK_CANCEL]).await.unwrap();
    let id = "CXc85b4rqinB7s5J52TRYb";
    bus.set(&keys::background_tasks("s1"), id, "{}", None).await.unwrap();
    let tool = ToolStop::new(manager);
    let answer = tool.run(&stop_call(id)).await;
    assert_success(
        &answer,
        &format!("Cancel request sent for task {id}. The owning worker will stop it shortly."),
    );
    assert_eq!(Value::Object(answer.metadata), json!({ "task_id": id }));
    let Some(SubscriptionEvent::Message(message)) = cancels.recv().await else { panic!("no cancel") };
    let cancel: Value = serde_json::from_str(&message.payload).unwrap();
    assert_eq!(cancel, json!({"task_id": id, "session_id": "s1", "user_id": "alice"}));

    let stranger = tool.run(&stop_call(id).with_session("s2")).await;
    assert_eq!(text(&stranger), format!("TaskNotFoundError: The task {id} does not exist."));
    assert!(tokio::time::timeout(secs(1), cancels.recv()).await.is_err(), "a cancel was sent");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_fails_is_said_to_have_failed() {
    let bus = std::sync::Arc::new(FlakyBus::default());
    let manager = TaskManager::builder().bus(bus.clone()).build();
    let task = offload(&manager, endless()).await;
    bus.fail_next(1);
    let answer = ToolStop::new(manager.clone()).run(&stop_call("elsewhere")).await;
    assert_eq!(answer.state, ToolState::Error);
    assert_eq!(
        text(&answer),
        "BusError: The task elsewhere could not be looked up, try again later: message bus: could not look up a field."
    );
    assert!(text(&stop(&manager, task).await).ends_with("stopped successfully."), "local ones need no bus");
}

/// As an agent has it: one among its tools, behind the layer.
#[tokio::test(start_paused = true)]
async fn it_is_a_tool_like_the_others_behind_the_layer() {
    let manager = TaskManager::builder().cancel_grace(secs(3)).build();
    let stop = ToolStop::new(manager.clone());
    let tools = service_fn(move |call: ToolCall| {
        let mut stop = stop.clone();
        async move {
            match call.name() {
                ToolStop::NAME => {
                    let response = stop.ready().await.unwrap_or_else(|never| match never {});
                    Ok(response.call(call).await.unwrap_or_else(|never| match never {}))
                }
                _ => endless().await,
            }
        }
    });
    let layer = OffloadLayer::for_tools(manager.clone(), secs(1));
    let tools = ServiceBuilder::new().layer(layer).service(tools);
    let placeholder = tools.clone().oneshot(call("Bash", "{}")).await.unwrap();
    let id = task_id(&placeholder);
    assert!(text(&placeholder).contains(&format!("id={id}")));
    // It waits for longer than the timeout of the layer.
    let answer = tools.oneshot(stop_call(&id.to_string())).await.unwrap();
    assert_success(&answer, &format!("Task {id} stopped successfully."));
    assert_silent(&manager).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_that_were_registered_directly_can_be_stopped() {
    let manager = TaskManager::new();
    let meta = TaskMeta::new("alice", "import").with_session("s1");
    let task = manager.spawn(meta, std::future::pending::<()>()).unwrap();
    assert_success(&stop(&manager, task.id).await, &format!("Task {} stopped successfully.", task.id));
}

#[test]
fn name_description_and_schema_are_agentscopes() {
    assert_eq!(ToolStop::NAME, "ToolStop");
    assert_eq!(
        ToolStop::DESCRIPTION,
        "Stop a background tool execution by its task id. Use this when you want to cancel a previously offloaded \
         tool that is still running in the background."
    );
    assert_eq!(
        ToolStop::INPUT_SCHEMA,
        r#"{"description": "The params of the stop tool.", "properties": {"task_id": {"description": "The task id of the background tool to stop.", "title": "Task Id", "type": "string"}}, "required": ["task_id"], "title": "_ToolStopParams", "type": "object"}"#
    );
    assert_eq!(ToolStop::input_schema(), serde_json::from_str::<Value>(ToolStop::INPUT_SCHEMA).unwrap());
}
