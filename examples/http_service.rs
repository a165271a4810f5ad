//! An axum app with the layer and the routes. Try `/report/2` and `/report/60`.
//!
//! Run with: `cargo run --features full --example http_service [ADDRESS]`
//!
//! Ctrl-C or SIGTERM shuts the program down: it accepts no more connections, and gives calls under way and running tasks ten
//! seconds. A second signal ends the program at once.

use std::process::exit;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower_offload::{BackgroundTasks, TaskManager};

async fn report(Path(seconds): Path<u32>) -> String {
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    format!("a report that took {seconds} s\n")
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // The handlers come before the first line of output, because its reader may send a signal at once.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut stop = async move || {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    };

    let manager = TaskManager::new();
    let tasks = BackgroundTasks::new(manager.clone());
    let app = Router::new()
        .route("/report/{seconds}", get(report))
        // After five seconds the caller gets a 202 that names the task. Without a user it goes on waiting.
        .layer(tasks.layer(Duration::from_secs(5)))
        // GET /background-tasks, GET /background-tasks/{task_id}; and Swagger UI under /swagger-ui/.
        .merge(tasks.router())
        .merge(tasks.swagger_ui().router());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let (stop_accepting, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(stopped.map(drop));
    let server = tokio::spawn(server.into_future());
    stop().await;
    tokio::spawn(async move {
        stop().await;
        exit(130);
    });

    let _ = stop_accepting.send(());
    // Together, so that a call that does not end keeps no task from being told to stop.
    let grace = Duration::from_secs(10);
    let _ = tokio::join!(manager.shutdown(grace), timeout(grace, server));
    println!("shut down");
    Ok(())
}
