use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;

use super::TaskManager;
use crate::bus::message::{SessionSignal, TaskCancel};
use crate::bus::{self, Message, PubSub, SharedBus, Subscription, SubscriptionEvent, keys};
use crate::panics;
use crate::task::{Scope, logged};

type OnSession = Arc<dyn Fn(&SessionSignal) + Send + Sync>;

const CHANNELS: [&str; 3] = [keys::TASK_CANCEL, keys::SESSION_CANCEL, keys::SESSION_INTERRUPT];
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Listens on the bus for requests of other processes to stop what runs in this one.
///
/// A task cancel stops that task. A session cancel stops all running tasks of the session. An interrupt stops no task:
/// it is for the host's own runs, and a hook is called with it. A signal without a session stops nothing. A message that
/// cannot be read is logged and skipped. A subscription that ends is made again, after a growing wait of at most ten
/// seconds. A panic, of a hook or of a `tracing` subscriber, does not end the listening.
///
/// Dropping the dispatcher ends the listening.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_offload::task::Scope;
/// use tower_offload::{CancelDispatcher, TaskManager, TaskMeta};
///
/// let manager = TaskManager::new();
/// let dispatcher = CancelDispatcher::builder(&manager)
///     .on_interrupt(|signal| println!("interrupt the run of {}", signal.session_id))
///     .start()
///     .await?;
///
/// let task = manager.register(TaskMeta::new("alice", "Sleep"), std::future::pending::<()>())?;
/// let cancel = format!(r#"{{"task_id": "{}"}}"#, task.id);
/// manager.bus().publish(tower_offload::bus::keys::TASK_CANCEL, &cancel).await?;
///
/// let task = manager.wait(&Scope::user("alice"), task.id).await?.expect("it is retained");
/// assert_eq!(task.status.as_str(), "cancelled");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the dispatcher ends the listening"]
pub struct CancelDispatcher {
    task: AbortHandle,
}

impl CancelDispatcher {
    /// A dispatcher for the tasks and the bus of `manager`.
    pub fn builder(manager: &TaskManager) -> CancelDispatcherBuilder {
        CancelDispatcherBuilder { manager: manager.clone(), on_cancel: None, on_interrupt: None }
    }

    /// A dispatcher without hooks; see [`CancelDispatcherBuilder::start`].
    ///
    /// # Errors
    ///
    /// When the bus cannot be subscribed to.
    pub async fn start(manager: &TaskManager) -> bus::Result<Self> {
        Self::builder(manager).start().await
    }
}

impl Drop for CancelDispatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Builds a [`CancelDispatcher`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct CancelDispatcherBuilder {
    manager: TaskManager,
    on_cancel: Option<OnSession>,
    on_interrupt: Option<OnSession>,
}

impl CancelDispatcherBuilder {
    /// Called for each session cancel, after the session's tasks were asked to stop: the place to stop the host's
    /// own run of the session. Must not block.
    pub fn on_session_cancel(mut self, hook: impl Fn(&SessionSignal) + Send + Sync + 'static) -> Self {
        self.on_cancel = Some(Arc::new(hook));
        self
    }

    /// Called for each interrupt: the host's own run of the session should stop, its background tasks live on. Must
    /// not block.
    pub fn on_interrupt(mut self, hook: impl Fn(&SessionSignal) + Send + Sync + 'static) -> Self {
        self.on_interrupt = Some(Arc::new(hook));
        self
    }

    /// Starts to listen, on the current runtime. When this returns every cancel that is sent from now on is heard.
    ///
    /// # Errors
    ///
    /// When the bus cannot be subscribed to now. Trouble later on is logged and retried.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(self) -> bus::Result<CancelDispatcher> {
        let subscription = self.manager.bus().subscribe(&CHANNELS).await?;
        self.check();
        let task = tokio::spawn(self.listen(subscription)).abort_handle();
        Ok(CancelDispatcher { task })
    }

    /// The same without waiting: it listens as soon as the bus can be reached. A service can start so while its bus is
    /// away; what is asked of its tasks until then is found when it is back.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_in_background(self) -> CancelDispatcher {
        self.check();
        let listen = async move {
            let subscription = match self.manager.bus().subscribe(&CHANNELS).await {
                Ok(subscription) => subscription,
                Err(error) => {
                    let _ = panics::catch(|| tracing::warn!(%error, "not listening for cancels yet"));
                    subscribe_again(self.manager.bus()).await
                }
            };
            self.check();
            self.listen(subscription).await;
        };
        CancelDispatcher { task: tokio::spawn(listen).abort_handle() }
    }

    /// Stops that were asked for while nobody listened are kept with the tasks.
    fn check(&self) {
        // A process that listens has a lease before it runs anything, and knows whether the bus is there.
        if let Some(mirror) = self.manager.shared.mirror() {
            mirror.check_soon();
        }
    }

    async fn listen(self, mut subscription: Subscription) {
        loop {
            while let Some(event) = subscription.recv().await {
                // The panic hook of the process has reported a panic.
                let _ = panics::catch(|| match event {
                    SubscriptionEvent::Message(message) => self.dispatch(&message),
                    SubscriptionEvent::Lagged(lost) => {
                        self.check();
                        tracing::warn!(lost, "cancel requests were lost; looking for those that are kept");
                    }
                    SubscriptionEvent::Error(error) => tracing::warn!(%error, "listening for cancels"),
                });
            }
            subscription = subscribe_again(self.manager.bus()).await;
            self.check();
        }
    }

    fn dispatch(&self, message: &Message) {
        match &*message.channel {
            keys::TASK_CANCEL => {
                let Some(cancel) = read::<TaskCancel>(message) else { return };
                let Some(id) = super::canonical(&cancel.task_id) else { return };
                self.manager.shared.request_stop(&scope(cancel.user_id, cancel.session_id), id);
            }
            keys::SESSION_CANCEL => {
                let Some(signal) = read::<SessionSignal>(message) else { return };
                let scope = scope(signal.user_id.clone(), Some(signal.session_id.clone()));
                if scope.is_empty() {
                    tracing::warn!("a cancel that names no session is skipped");
                    return;
                }
                // A waker that panics must not keep the hook from being called.
                let _ = panics::catch(|| self.manager.shared.request_stop_all(&scope));
                call(self.on_cancel.as_ref(), &signal);
            }
            _ => {
                let Some(signal) = read::<SessionSignal>(message) else { return };
                if scope(signal.user_id.clone(), Some(signal.session_id.clone())).is_empty() {
                    tracing::warn!("an interrupt that names no session is skipped");
                    return;
                }
                call(self.on_interrupt.as_ref(), &signal);
            }
        }
    }
}

impl fmt::Debug for CancelDispatcherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelDispatcherBuilder").field("manager", &self.manager).finish_non_exhaustive()
    }
}

/// A hook that panics must not end the listening.
fn call(hook: Option<&OnSession>, signal: &SessionSignal) {
    let Some(hook) = hook else { return };
    if let Err(error) = panics::catch(|| hook(signal)) {
        tracing::error!(session_id = signal.session_id, error, "a hook of the cancel dispatcher panicked");
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    serde_json::from_str(&message.payload)
        .inspect_err(|error| {
            // It may quote the message.
            let (error, channel) = (logged(error), &*message.channel);
            tracing::warn!(error, channel, "malformed message skipped");
        })
        .ok()
}

fn scope(user_id: Option<String>, session_id: Option<String>) -> Scope {
    Scope::any().and_user(user_id).and_session(session_id)
}

async fn subscribe_again(bus: &SharedBus) -> Subscription {
    let mut wait = FIRST_RETRY;
    loop {
        tokio::time::sleep(wait).await;
        match PubSub::subscribe(&**bus, &CHANNELS).await {
            Ok(subscription) => return subscription,
            Err(error) => {
                let _ = panics::catch(|| tracing::warn!(%error, "listening for cancels again"));
            }
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}
