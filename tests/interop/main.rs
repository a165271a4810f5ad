//! Side by side with the real AgentScope, on one Redis.
#![cfg(all(feature = "http", feature = "tool", feature = "swagger-ui"))]

mod peer;
mod python;
mod redis;

use std::time::Duration;

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
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it should have happened by now")
}
