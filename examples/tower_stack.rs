//! A plain tower service, no HTTP: a report that takes too long moves to the background.
//!
//! Run with: `cargo run --example tower_stack`

use std::convert::Infallible;
use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_offload::manager::{BoxError, Ended};
use tower_offload::task::Scope;
use tower_offload::{OffloadLayer, TaskManager, TaskMeta, TaskRecord};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let manager = TaskManager::new();
    let layer = OffloadLayer::new(manager.clone(), Duration::from_millis(500))
        .describe(|pages: &u64| Some(TaskMeta::new("alice", "report").with_summary(format!("{pages} pages"))))
        .respond(|task: &TaskRecord| format!("this takes a while: task {}", task.id))
        .deliver(async |task: TaskRecord, ended: Ended<Result<String, Infallible>>| {
            println!("delivered: {} -> {:?}", task.meta.summary(), ended.returned());
            Ok(())
        });
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |pages: u64| {
        tokio::time::sleep(Duration::from_millis(20 * pages)).await;
        Ok::<_, Infallible>(format!("a report of {pages} pages"))
    }));

    println!("2 pages:   {}", service.clone().oneshot(2).await?);
    println!("100 pages: {}", service.oneshot(100).await?);
    for task in manager.list(&Scope::user("alice")).await? {
        println!("listed:    {} {} ({})", task.id, task.status, task.meta.summary());
        let ended = manager.wait(&Scope::user("alice"), task.id).await?.ok_or("gone")?;
        println!("ended:     {} {}", ended.id, ended.status);
    }
    println!("shutdown:  {}", manager.shutdown(Duration::from_secs(1)).await);
    Ok(())
}
