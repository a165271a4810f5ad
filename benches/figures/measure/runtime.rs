//! The runtimes on which things are measured.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// So many tasks run while one that has yielded waits for its turn; of more, some would be left over.
pub(crate) const TURN: usize = 32;

/// One thread: what is counted is counted here, since nothing depends on how threads meet.
pub(crate) fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

pub(crate) fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built")
}

/// Runs a future as servers run theirs: as a task of the runtime, while somebody else's timer waits.
///
/// Without that timer each one that is set finds the runtime without any and wakes its driver, which is a call to the
/// kernel. A task of a server waits for its next request now and then; here it goes on without a pause, and so it has
/// no budget after which timers make it wait.
pub(crate) fn on<F>(runtime: &Runtime, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    runtime.block_on(async {
        let other = tokio::spawn(tokio::time::sleep(Duration::from_secs(30)));
        // The driver sees it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let output = tokio::spawn(tokio::task::coop::unconstrained(future)).await;
        other.abort();
        output.unwrap_or_else(|error| panic!("{error}"))
    })
}
