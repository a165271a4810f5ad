//! Calls that stay in the foreground.

use std::time::Duration;

use tower_offload::TaskManager;
use tower_offload::http::{DescribeRequest, RequestHead, Unidentified};
use tower_offload::offload::OnDisconnect;

use crate::support::{layer, post, request, slow};

#[tokio::test(start_paused = true)]
async fn a_call_that_stays_goes_with_its_caller() {
    let manager = TaskManager::new();
    let layer = layer(&manager).on_disconnect(OnDisconnect::HandOver);
    let call = slow(layer, request("POST", "/", &[]));
    tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
    assert_eq!(manager.stats().admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_panics_identifies_no_user() {
    fn boom(_: &RequestHead<'_>) -> Result<String, Unidentified> {
        /// A payload that panics once more.
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and again");
            }
        }
        std::panic::panic_any(Bomb)
    }
    let manager = TaskManager::new();
    let describe = DescribeRequest::new().identity(boom);
    assert_eq!(slow(layer(&manager).describe(describe), post()).await.status(), 200);
    assert_eq!(manager.stats().admitted, 0);
}
