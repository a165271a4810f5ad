//! How running work finds its cancellation token, before and after it moves to the background.
//!
//! The tokens of nested calls are a tree: the token of a call is cancelled with that of the task that the call is a part
//! of, at any depth, and whether the call is polled or not. A token is made when code asks for it, together with those of
//! the calls around. A call whose token is never asked for costs a counter.

mod stack;
mod token;

use tokio_util::sync::CancellationToken;

pub(crate) use self::stack::in_background;
pub(super) use self::token::{CallToken, Running, Stopping};

/// Returns the cancellation token of the work that calls this function.
///
/// It has an effect inside a call that went through [`OffloadLayer`](crate::OffloadLayer), and inside a future that was
/// given to [`TaskManager::spawn`](super::TaskManager::spawn). The token stays valid when the call moves to the
/// background, so that work can fetch it at its start and pass it to whatever it starts. It is cancelled when the task
/// is asked to stop, reaches its run-time limit, or is shut down, when the caller drops the call before the deadline,
/// and when the work is dropped because it or a hook panicked. After the manager's grace time the future is dropped,
/// whether it watches the token or not.
///
/// Elsewhere the function returns a new token that is never cancelled. That includes code that the work spawned as a
/// tokio task of its own: fetch the token before spawning. Each call returns a child token: cancelling it affects only
/// the code that it was passed to.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_offload::task::{Outcome, Scope};
/// use tower_offload::{TaskManager, TaskMeta, cancellation_token};
///
/// let manager = TaskManager::builder().cancel_grace(std::time::Duration::from_secs(5)).build();
/// let task = manager.spawn(TaskMeta::new("alice", "import"), async {
///     cancellation_token().cancelled().await;
///     // ... close files, then say that it stopped because it was asked to.
///     Outcome::Cancelled
/// })?;
/// let scope = Scope::user("alice");
/// manager.stop(&scope, task.id).await?;
/// let task = manager.wait(&scope, task.id).await?.expect("it is retained");
/// assert_eq!(task.status.as_str(), "cancelled");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn cancellation_token() -> CancellationToken {
    stack::innermost().map_or_else(CancellationToken::new, |token| token.child_token())
}
