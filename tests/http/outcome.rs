//! How the task of a handed-over call ends.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use tower::{BoxError, Layer, ServiceExt};
use tower_offload::http::{ClassifyStatus, DescribeRequest, Rule};
use tower_offload::manager::Ended;
use tower_offload::task::FailureReason;
use tower_offload::{TaskManager, TaskRecord, TaskStatus};

use crate::support::{SLOW, answers_after, body, ended, layer, post};

async fn task_of(status: u16, classify: ClassifyStatus) -> TaskRecord {
    let manager = TaskManager::new();
    let response = Response::builder().status(status).body(axum::body::Bytes::new()).unwrap();
    let service = layer(&manager).classify(classify).layer(answers_after(SLOW, response));
    assert_eq!(service.oneshot(post()).await.unwrap().status(), 202);
    ended(&manager).await
}

fn verdict(task: &TaskRecord) -> (TaskStatus, Option<FailureReason>, Option<&str>) {
    (task.status, task.failure_reason, task.error_summary.as_deref())
}

#[tokio::test(start_paused = true)]
async fn the_status_decides() {
    for status in [200, 204, 303] {
        let task = task_of(status, ClassifyStatus::new()).await;
        assert_eq!(verdict(&task), (TaskStatus::Completed, None, None), "{status}");
    }
    for (status, text) in [(404, "404 Not Found"), (500, "500 Internal Server Error"), (599, "599")] {
        let task = task_of(status, ClassifyStatus::new()).await;
        assert_eq!(verdict(&task), (TaskStatus::Failed, Some(FailureReason::Error), Some(text)));
    }
}

#[tokio::test(start_paused = true)]
async fn client_errors_may_count_as_done() {
    let classify = ClassifyStatus::new().server_errors_only();
    assert_eq!(task_of(404, classify).await.status, TaskStatus::Completed);
    assert_eq!(task_of(503, classify).await.error_summary.as_deref(), Some("503 Service Unavailable"));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_error_is_a_failure() {
    let manager = TaskManager::new();
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
    let response = response.header("grpc-message", "no%20row").body(axum::body::Bytes::new()).unwrap();
    // A host that hands over calls of gRPC all the same.
    let describe = DescribeRequest::new().rule(Rule::Grpc, |_| false);
    let service = layer(&manager).describe(describe).layer(answers_after(SLOW, response));
    let mut request = post();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    assert_eq!(service.oneshot(request).await.unwrap().status(), 202);
    let task = ended(&manager).await;
    let text = "gRPC status 5 (NOT_FOUND): no row";
    assert_eq!(verdict(&task), (TaskStatus::Failed, Some(FailureReason::Error), Some(text)));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_is_a_failure() {
    let manager = TaskManager::new();
    let service = tower::service_fn(|_: Request<Body>| async {
        tokio::time::sleep(SLOW).await;
        Err::<Response<Body>, BoxError>("connection reset".into())
    });
    assert_eq!(layer(&manager).layer(service).oneshot(post()).await.unwrap().status(), 202);
    let task = ended(&manager).await;
    assert_eq!(verdict(&task), (TaskStatus::Failed, Some(FailureReason::Error), Some("connection reset")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_hand_over_is_a_failure() {
    let manager = TaskManager::new();
    let handler = || async {
        tokio::time::sleep(SLOW).await;
        if true {
            panic!("out of paper");
        }
    };
    let app = Router::new().fallback(handler).layer(layer(&manager));
    assert_eq!(app.oneshot(post()).await.unwrap().status(), 202);
    let task = ended(&manager).await;
    assert_eq!(verdict(&task), (TaskStatus::Failed, Some(FailureReason::Panic), Some("out of paper")));
}

#[tokio::test(start_paused = true)]
async fn a_deliverer_gets_the_response() {
    let manager = TaskManager::new();
    let delivered = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&delivered);
    let deliver = move |task: TaskRecord, ended: Ended<Result<Response<Body>, std::convert::Infallible>>| {
        let slot = Arc::clone(&slot);
        async move {
            let Some(Ok(response)) = ended.returned() else { return Err("no response".into()) };
            let status = response.status();
            *slot.lock().unwrap() = Some((task.status, status, body(response).await));
            Ok(())
        }
    };
    let handler = || async {
        tokio::time::sleep(SLOW).await;
        (StatusCode::CREATED, "the report")
    };
    let app = Router::new().fallback(handler).layer(layer(&manager).deliver(deliver));
    assert_eq!(app.oneshot(post()).await.unwrap().status(), 202);
    manager.shutdown(SLOW * 2).await;
    let expected = (TaskStatus::Completed, StatusCode::CREATED, b"the report".to_vec());
    assert_eq!(delivered.lock().unwrap().take(), Some(expected));
}
