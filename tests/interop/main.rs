//! Side by side with the real AgentScope, on one Redis.
#![cfg(all(feature = "http", feature = "redis", feature = "swagger-ui", feature = "tool"))]

mod both;
mod cancel;
#[path = "../support/client.rs"]
mod client;
mod fuzz;
mod hints;
mod inbox;
mod locks;
mod modes;
mod ours;
#[path = "../support/patience.rs"]
mod patience;
mod peer;
#[path = "../examples/program.rs"]
mod program;
mod python;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod runs;
mod tasks;
mod wakeups;

use std::time::Duration;

use crate::patience::PATIENCE;

/// Asks again and again until there is an answer.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            again.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it should have happened by now")
}
