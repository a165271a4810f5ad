use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::carried::Carry;
use super::super::message::Wakeup;
use super::super::trouble::{Backoff, after, in_time};
use super::super::{BusError, Result, SharedBus, keys};
use crate::log_limit::LogLimit;

/// For how long the flag stays up when it is not renewed, as in AgentScope.
const FLAG: Duration = Duration::from_secs(600);

/// What an [`Inbox`](super::Inbox) shares with what runs for it in the background.
pub(super) struct Session {
    pub(super) bus: SharedBus,
    pub(super) inbox: String,
    consumer: String,
    /// What to wake with, should the run end with something left.
    pub(super) wakeup: Wakeup,
    /// Whether the flag should be up. Locked while it is changed on the bus.
    pub(super) reading: Mutex<bool>,
}

/// The renewal of the flag in the background.
pub(super) struct Renewal {
    session: Arc<Session>,
    stop: CancellationToken,
    is_first: bool,
}

impl Renewal {
    pub(super) const fn new(session: Arc<Session>, stop: CancellationToken) -> Self {
        Self { session, stop, is_first: true }
    }
}

impl Carry for Renewal {
    type Output = ();

    async fn run(&mut self) {
        // On another runtime it may have been long since the last one.
        let pause = if std::mem::take(&mut self.is_first) { FLAG / 3 } else { Duration::ZERO };
        self.session.renew(&self.stop, pause).await;
    }
}

/// The end of a run that did not close its inbox.
pub(super) struct Ending {
    session: Arc<Session>,
    tidied: Tidied,
}

impl Ending {
    pub(super) const fn new(session: Arc<Session>) -> Self {
        Self { session, tidied: Tidied::Nothing }
    }
}

impl Carry for Ending {
    type Output = ();

    async fn run(&mut self) {
        self.session.end(&mut self.tidied).await;
    }
}

/// How far a run that ended otherwise is tidied up.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Tidied {
    Nothing,
    SomethingLeft,
    Pushed,
    FlagDown,
}

impl Session {
    pub(super) fn new(bus: SharedBus, wakeup: &Wakeup) -> Self {
        let Wakeup { user_id, session_id, agent_id, .. } = wakeup;
        Self {
            bus,
            inbox: keys::inbox(session_id),
            consumer: keys::inbox_consumer(session_id),
            wakeup: Wakeup::wake(user_id, session_id, agent_id),
            reading: Mutex::new(true),
        }
    }

    pub(super) async fn raise_flag(&self) -> Result<()> {
        let reading = self.reading.lock().await;
        if *reading {
            let raise = self.bus.set(&self.consumer, keys::CONSUMER_RUNNING, "1", Some(FLAG));
            in_time("say that an inbox is read", raise).await?;
        }
        Ok(())
    }

    /// Renews the flag until `stop` is cancelled. It completes a call that is under way, because a dropped one could set the
    /// flag later.
    async fn renew(&self, stop: &CancellationToken, mut pause: Duration) {
        let mut backoff = Backoff::new();
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            pause = match self.raise_flag().await {
                Ok(()) => {
                    backoff.reset();
                    FLAG / 3
                }
                Err(error) => {
                    // Each open inbox comes here while the bus cannot be reached.
                    static LINES: LogLimit = LogLimit::new();
                    LINES.write(|left_out| {
                        tracing::warn!(%error, left_out, "the flag of an inbox was not renewed; trying again");
                    });
                    backoff.pause()
                }
            };
        }
    }

    async fn end(&self, tidied: &mut Tidied) {
        *self.reading.lock().await = false;
        let give_up = after(FLAG);
        let mut backoff = Backoff::new();
        while let Err(error) = self.tidy_up(tidied).await {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                static GIVEN_UP: LogLimit = LogLimit::new();
                GIVEN_UP.write(|left_out| {
                    tracing::error!(%error, left_out, "an inbox was not closed; its entries wait for the next wakeup");
                });
                return;
            }
            static LINES: LogLimit = LogLimit::new();
            LINES.write(
                |left_out| tracing::warn!(%error, left_out, "an inbox is not closed yet; trying again"),
            );
            sleep(backoff.pause().min(left)).await;
        }
    }

    /// Closes the inbox, or wakes for what is left in it. When it is called again it goes on where it failed.
    async fn tidy_up(&self, tidied: &mut Tidied) -> Result<()> {
        let operation = "close an inbox";
        if *tidied == Tidied::Nothing {
            if in_time(operation, self.bus.finish_inbox(&self.wakeup.session_id)).await? {
                return Ok(());
            }
            *tidied = Tidied::SomethingLeft;
        }
        // First the wakeup: whatever happens then, a process runs the session and reads its inbox. As long as the flag is
        // up a delivery sends no wakeup, and once it is down each delivery does again.
        if *tidied == Tidied::SomethingLeft {
            let entry =
                serde_json::to_string(&self.wakeup).map_err(|error| BusError::new(operation, error))?;
            in_time(operation, self.bus.push(keys::WAKEUPS, &entry, None)).await?;
            *tidied = Tidied::Pushed;
        }
        if *tidied == Tidied::Pushed {
            in_time(operation, self.bus.remove(&self.consumer, keys::CONSUMER_RUNNING)).await?;
            *tidied = Tidied::FlagDown;
        }
        in_time(operation, self.bus.publish(keys::WAKEUP_SIGNAL, "{}")).await
    }
}
