use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use super::TaskManager;
use super::shared::PERIOD;
use crate::bus::message::{SessionSignal, TaskCancel};
use crate::bus::{self, Message, PubSub, Subscription, SubscriptionEvent, keys};
use crate::helper::Helper;
use crate::log_limit::LogLimit;
use crate::panics;
use crate::task::{Scope, TaskId, logged};

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
/// When the runtime that carries the listening ends or stands still, another runtime on which the manager is used takes
/// over. Dropping the dispatcher ends the listening.
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
/// let task = manager.spawn(TaskMeta::new("alice", "Sleep"), std::future::pending::<()>())?;
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
    /// Dropping it ends the listening.
    _helper: Helper,
}

impl CancelDispatcher {
    /// A dispatcher for the tasks and the bus of `manager`.
    pub fn builder(manager: &TaskManager) -> CancelDispatcherBuilder {
        CancelDispatcherBuilder(Listener {
            manager: manager.clone(),
            on_cancel: None,
            on_interrupt: None,
            subscription: Mutex::new(None),
        })
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

/// Builds a [`CancelDispatcher`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct CancelDispatcherBuilder(Listener);

/// What the loop of a dispatcher needs. It outlives the runtime that carries the loop.
struct Listener {
    manager: TaskManager,
    on_cancel: Option<OnSession>,
    on_interrupt: Option<OnSession>,
    /// The subscription, while no loop has it.
    subscription: Mutex<Option<Subscription>>,
}

impl CancelDispatcherBuilder {
    /// Called for each session cancel, after the session's tasks were asked to stop: the place to stop the host's
    /// own run of the session. Must not block.
    pub fn on_session_cancel(mut self, hook: impl Fn(&SessionSignal) + Send + Sync + 'static) -> Self {
        self.0.on_cancel = Some(Arc::new(hook));
        self
    }

    /// Called for each interrupt: the host's own run of the session should stop, its background tasks live on. Must
    /// not block.
    pub fn on_interrupt(mut self, hook: impl Fn(&SessionSignal) + Send + Sync + 'static) -> Self {
        self.0.on_interrupt = Some(Arc::new(hook));
        self
    }

    /// Starts to listen, on the manager's runtime or else on the current one. When this returns every cancel that is sent
    /// from now on is heard.
    ///
    /// # Errors
    ///
    /// When the bus cannot be subscribed to now. Trouble later on is logged and retried.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(self) -> bus::Result<CancelDispatcher> {
        let subscription = self.0.manager.bus().subscribe(&CHANNELS).await?;
        self.0.put_back(subscription);
        Ok(self.start_in_background())
    }

    /// The same without waiting: the dispatcher listens as soon as the bus can be reached. So a service can start while its
    /// bus is away; when the bus is back, the dispatcher finds the stops that were asked for until then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_in_background(self) -> CancelDispatcher {
        // Panics here, and not later in a task.
        let _current = Handle::current();
        let listener = Arc::new(self.0);
        let runtimes = Arc::clone(listener.manager.shared.runtimes());
        let helper = Helper::new(runtimes, PERIOD, move || Some(listen(Arc::clone(&listener))));
        helper.start();
        CancelDispatcher { _helper: helper }
    }
}

async fn listen(listener: Arc<Listener>) {
    let mut held = Held { subscription: listener.take(), listener: &listener };
    listener.check();
    loop {
        let subscription = match &mut held.subscription {
            Some(subscription) => subscription,
            none => {
                let new = listener.subscribe().await;
                listener.check();
                none.insert(new)
            }
        };
        match subscription.recv().await {
            // The panic hook of the process has reported a panic.
            Some(event) => panics::quietly(|| listener.handle(event)),
            None => {
                held.subscription = None;
                tokio::time::sleep(FIRST_RETRY).await;
            }
        }
    }
}

/// The subscription of a loop. It goes back when the loop is dropped because another runtime takes over, so that the next
/// loop hears what is sent in between.
struct Held<'a> {
    listener: &'a Listener,
    subscription: Option<Subscription>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            self.listener.put_back(subscription);
        }
    }
}

impl Listener {
    fn take(&self) -> Option<Subscription> {
        self.subscription.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, subscription: Subscription) {
        let old = self.subscription.lock().unwrap_or_else(PoisonError::into_inner).replace(subscription);
        // Without the lock: dropping a subscription may call the bus.
        drop(old);
    }

    async fn subscribe(&self) -> Subscription {
        let mut wait = FIRST_RETRY;
        loop {
            match PubSub::subscribe(&**self.manager.bus(), &CHANNELS).await {
                Ok(subscription) => return subscription,
                Err(error) => panics::quietly(|| tracing::warn!(%error, "not listening for cancels")),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    /// Stops that were asked for while no dispatcher listened are kept with the tasks.
    fn check(&self) {
        // A process that listens has a lease before it runs anything, and knows whether the bus is there.
        if let Some(mirror) = self.manager.shared.mirror() {
            mirror.check_soon();
        }
    }

    fn handle(&self, event: SubscriptionEvent) {
        match event {
            SubscriptionEvent::Message(message) => self.dispatch(&message),
            SubscriptionEvent::Lagged(lost) => {
                self.check();
                static LINES: LogLimit = LogLimit::new();
                LINES.write(|left_out| {
                    tracing::warn!(
                        lost,
                        left_out,
                        "cancel requests were lost; looking for those that are kept"
                    );
                });
            }
            SubscriptionEvent::Error(error) => {
                static LINES: LogLimit = LogLimit::new();
                LINES.write(|left_out| tracing::warn!(%error, left_out, "listening for cancels"));
            }
        }
    }

    fn dispatch(&self, message: &Message) {
        match &*message.channel {
            keys::TASK_CANCEL => {
                let Some(cancel) = read::<TaskCancel>(message) else { return };
                let Some(id) = TaskId::canonical(&cancel.task_id) else { return };
                self.manager.shared.request_stop(&scope(cancel.user_id, cancel.session_id), id);
            }
            keys::SESSION_CANCEL => {
                let Some(signal) = read::<SessionSignal>(message) else { return };
                let scope = scope(signal.user_id.clone(), Some(signal.session_id.clone()));
                if scope.is_empty() {
                    return skip("it names no session", message);
                }
                // A waker that panics must not keep the hook from being called.
                let _ = panics::catch(|| self.manager.shared.request_stop_all(&scope));
                call(self.on_cancel.as_ref(), &signal);
            }
            _ => {
                let Some(signal) = read::<SessionSignal>(message) else { return };
                if scope(signal.user_id.clone(), Some(signal.session_id.clone())).is_empty() {
                    return skip("it names no session", message);
                }
                call(self.on_interrupt.as_ref(), &signal);
            }
        }
    }
}

impl fmt::Debug for CancelDispatcherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelDispatcherBuilder").field("manager", &self.0.manager).finish_non_exhaustive()
    }
}

/// Calls a hook. A panic in it must not end the dispatcher.
fn call(hook: Option<&OnSession>, signal: &SessionSignal) {
    let Some(hook) = hook else { return };
    if let Err(panic) = panics::catch(|| hook(signal)) {
        static LINES: LogLimit = LogLimit::new();
        LINES.write(|left_out| {
            // Both texts may quote the message of a peer.
            let (session_id, panic) = (logged(&signal.session_id), logged(panic));
            tracing::error!(session_id, panic, left_out, "a hook of the cancel dispatcher panicked");
        });
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    serde_json::from_str(&message.payload).inspect_err(|error| skip(error, message)).ok()
}

/// Logs that a message of a peer is malformed.
fn skip(error: impl fmt::Display, message: &Message) {
    static LINES: LogLimit = LogLimit::new();
    LINES.write(|left_out| {
        // The error may quote the message.
        let (error, channel) = (logged(error), &*message.channel);
        tracing::warn!(error, channel, left_out, "malformed message skipped");
    });
}

fn scope(user_id: Option<String>, session_id: Option<String>) -> Scope {
    Scope::any().and_user(user_id).and_session(session_id)
}
