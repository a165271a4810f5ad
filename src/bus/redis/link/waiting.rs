use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::line::{Line, Open};

/// A call that waits for an answer.
///
/// A caller that leaves does not find out that no answer comes, and if all of them leave early no call does. So the
/// first one that leaves lets a task ask in its place.
pub(super) struct Waiting<'a> {
    line: &'a Arc<Line>,
    open: Open,
    runtime: Handle,
    asked: Instant,
    over: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(line: &'a Arc<Line>, open: Open, runtime: Handle) -> Self {
        Self { line, open, runtime, asked: Instant::now(), over: false }
    }

    /// The wait had an end. Returns on which connection it was and when it began.
    pub(super) fn end(mut self) -> (u64, Instant) {
        self.over = true;
        (self.open.generation, self.asked)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Some(probing) = self.open.probe() else { return };
        let Open { mut connection, generation, .. } = self.open.clone();
        let (line, asked, waited) =
            (Arc::downgrade(self.line), self.asked, self.line.server.response_timeout);
        // A runtime that has shut down drops this at once; its connection is gone with it.
        self.runtime.spawn(async move {
            let ping = redis::cmd("PING");
            let answer = timeout(waited, connection.send_packed_command(&ping)).await;
            drop(probing);
            if let (Err(_), Some(line)) = (answer, line.upgrade()) {
                line.lose_mute(generation, asked);
            }
        });
    }
}
