//! An axum app of one's own, with the layer and the router added: try `/report/2` and `/report/60`.
//!
//! Run with: `cargo run --features full --example http_service [ADDRESS]`

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tower_offload::TaskManager;
use tower_offload::api::BackgroundTasks;

async fn report(Path(seconds): Path<u32>) -> String {
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    format!("a report that took {seconds} s\n")
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let manager = TaskManager::new();
    let tasks = BackgroundTasks::new(manager.clone());
    let app = Router::new()
        .route("/report/{seconds}", get(report))
        // Whoever waits for more than five seconds gets a 202 that names the task; see `X-User-ID`.
        .layer(tower_offload::http::layer(manager, Duration::from_secs(5)))
        // GET /background-tasks, GET /background-tasks/{task_id}; and Swagger UI under /swagger-ui/.
        .merge(tasks.router())
        .merge(tasks.swagger_ui().router());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
