//! The layer under load: very many tasks at once, very many calls in a second, and very many calls.

pub(crate) mod at_once;
pub(crate) mod rate;
pub(crate) mod soak;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tower_offload::offload::OffloadCall;
use tower_offload::{TaskManager, TaskMeta};

const USERS: u64 = 100;

pub(crate) fn probe(name: &str, count: u64) -> bool {
    match name {
        "at_once" => at_once::probe(count),
        "soak" => soak::probe(count),
        _ => return false,
    }
    true
}

/// Nobody is refused.
fn manager() -> TaskManager {
    TaskManager::builder().max_running(u32::MAX / 2).max_running_per_user(u32::MAX / 2).build()
}

/// One of 100 users in one of ten sessions.
#[derive(Clone, Copy, Debug)]
struct Kept(u64);

impl OffloadCall for Kept {
    fn meta(&self) -> TaskMeta {
        let Self(number) = self;
        TaskMeta::new(user(*number), "Bash")
            .with_session(format!("session-{}", number / USERS % 10))
            .with_summary(format!("Bash(command=cargo test --{number})"))
    }
}

fn user(number: u64) -> Arc<str> {
    format!("user-{}", number % USERS).into()
}

type Work = Pin<Box<dyn Future<Output = Result<String, std::convert::Infallible>> + Send>>;

const MIB: f64 = (1 << 20) as f64;
