use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::super::super::carried::Carry;
use super::super::answer::is_fatal;
use super::super::backoff::Backoff;
use super::super::server::{Server, Trouble};
use super::Gauges;
use super::table::{Id, Subscriber, Table, texts};

/// Between the loss of a connection, or an attempt to connect that failed, and the next attempt.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// How often the server is asked whether it is still there, at the least.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The task that owns the connection of all subscriptions.
///
/// Messages, acknowledgements and the end of the connection come from the server as one stream, and are handled in
/// its order: a subscriber hears what comes after the acknowledgement of its own request. So the server is asked once
/// more for a channel that others are subscribed to already; it is unsubscribed when its last subscriber is gone. One request is
/// under way at a time, and what to ask next is seen from the table then, so that nothing overtakes anything.
pub(super) struct Worker {
    server: Arc<Server>,
    submitted: mpsc::UnboundedReceiver<Order>,
    gauges: Arc<Gauges>,
    table: Table,
    /// Attempts and connections that failed since all subscriptions were live.
    failures: u32,
}

/// What the task is asked for.
pub(super) enum Order {
    Subscribe(Subscriber),
    /// The subscription was dropped.
    Leave(Id),
}

/// The bus is gone.
struct Gone;

/// What the server was asked.
enum Question {
    Subscribe(Id),
    Unsubscribe,
    Ping,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

enum Failure {
    /// The server does not want to; the connection is well.
    Refused(RedisError),
    Lost(Trouble),
}

/// Why a connection is not used any more.
enum End {
    Lost(Trouble),
    /// There is no subscriber.
    Idle,
}

impl Carry for Worker {
    type Output = ();

    async fn run(&mut self) {
        // With the table all subscriptions end.
        let Err(Gone) = self.serve().await;
        self.gauges.subscriptions.store(0, Ordering::Relaxed);
    }
}

impl Worker {
    pub(super) fn new(
        server: Arc<Server>,
        submitted: mpsc::UnboundedReceiver<Order>,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self { server, submitted, gauges, table: Table::default(), failures: 0 }
    }

    async fn serve(&mut self) -> Result<Infallible, Gone> {
        // The runtime that carried the last connection has ended, if there was one.
        self.table.disconnect();
        let mut lost = !self.table.is_empty();
        loop {
            while self.table.is_empty() {
                (lost, self.failures) = (false, 0);
                let order = self.submitted.recv().await;
                self.follow(order)?;
            }
            let (pushed, pushes) = mpsc::unbounded_channel();
            let end = match self.connect(pushed).await? {
                Ok(connection) => {
                    self.gauges.reconnects.fetch_add(lost.into(), Ordering::Relaxed);
                    self.attend(connection, pushes).await?
                }
                Err(error) => End::Lost(self.server.trouble(format_args!("{error}"))),
            };
            self.table.disconnect();
            let End::Lost(trouble) = end else { continue };
            self.table.refuse_waiting(&trouble);
            self.note_subscriptions();
            self.failures = self.failures.saturating_add(1);
            lost = true;
            if self.failures == 1 && !self.table.is_empty() {
                tracing::warn!(%trouble, "subscriptions lost their connection to Redis, and may lose messages");
            }
            self.pause(&trouble).await?;
        }
    }

    async fn connect(
        &mut self,
        pushed: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<Result<MultiplexedConnection, RedisError>, Gone> {
        let server = Arc::clone(&self.server);
        let mut attempt = pin!(server.connect(pushed));
        loop {
            tokio::select! {
                connection = &mut attempt => return Ok(connection),
                order = self.submitted.recv() => self.follow(order)?,
            }
        }
    }

    /// Waits before the next attempt, if there are subscribers. A subscriber that comes meanwhile is refused.
    async fn pause(&mut self, trouble: &Trouble) -> Result<(), Gone> {
        let mut pause = pin!(sleep(PAUSES.pause(self.failures)));
        while !self.table.is_empty() {
            tokio::select! {
                () = &mut pause => break,
                order = self.submitted.recv() => {
                    self.follow(order)?;
                    self.table.refuse_waiting(trouble);
                    self.note_subscriptions();
                }
            }
        }
        Ok(())
    }

    /// Subscribes, receives and passes messages on, as long as the connection holds and there are subscribers.
    async fn attend(
        &mut self,
        connection: MultiplexedConnection,
        mut pushes: mpsc::UnboundedReceiver<PushInfo>,
    ) -> Result<End, Gone> {
        let period = self.server.response_timeout.clamp(Duration::from_millis(10), PING_INTERVAL);
        let mut ping = interval_at(Instant::now() + period, period);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ping_due = false;
        let mut asked: Option<(Question, Answer)> = None;
        loop {
            if asked.is_none() {
                asked = self.ask(&connection, &mut is_ping_due);
            }
            tokio::select! {
                push = pushes.recv() => {
                    if let Err(trouble) = self.take(push, asked.as_ref().map(|(question, _)| question)) {
                        return Ok(End::Lost(trouble));
                    }
                }
                Some((question, answer)) = answer(&mut asked) => {
                    if let Err(trouble) = self.answered(&question, answer, &mut pushes) {
                        return Ok(End::Lost(trouble));
                    }
                }
                order = self.submitted.recv() => self.follow(order)?,
                _ = ping.tick() => {
                    if self.table.is_empty() {
                        return Ok(End::Idle);
                    }
                    is_ping_due = true;
                }
            }
        }
    }

    /// Asks what is to be asked next, if anything is.
    fn ask(
        &mut self,
        connection: &MultiplexedConnection,
        is_ping_due: &mut bool,
    ) -> Option<(Question, Answer)> {
        let mut connection = connection.clone();
        if std::mem::take(is_ping_due) {
            let answer = async move {
                let ping = redis::cmd("PING");
                connection.send_packed_command(&ping).await.map(drop)
            };
            return Some((Question::Ping, self.in_time(answer)));
        }
        if let Some((id, channels)) = self.table.next_unasked() {
            let answer = async move { connection.subscribe(bytes(&channels)).await };
            return Some((Question::Subscribe(id), self.in_time(answer)));
        }
        let stale = self.table.take_stale();
        if !stale.is_empty() {
            let answer = async move { connection.unsubscribe(bytes(&stale)).await };
            return Some((Question::Unsubscribe, self.in_time(answer)));
        }
        None
    }

    fn in_time(&self, answer: impl Future<Output = Result<(), RedisError>> + Send + 'static) -> Answer {
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            let waited = server.response_timeout;
            match timeout(waited, answer).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) if is_fatal(&error) => {
                    Err(Failure::Lost(server.trouble(format_args!("{error}"))))
                }
                Ok(Err(error)) => Err(Failure::Refused(error)),
                Err(_) => Err(Failure::Lost(server.trouble(format_args!("no answer within {waited:?}")))),
            }
        })
    }

    fn answered(
        &mut self,
        question: &Question,
        answer: Result<(), Failure>,
        pushes: &mut mpsc::UnboundedReceiver<PushInfo>,
    ) -> Result<(), Trouble> {
        match (question, answer) {
            (_, Err(Failure::Lost(trouble))) => return Err(trouble),
            (Question::Subscribe(id), Ok(())) => {
                // Its acknowledgements are in the stream already, behind what came before them.
                while !self.table.is_acknowledged(*id) {
                    self.take(pushes.try_recv().ok(), Some(question))?;
                }
                self.table.complete(*id);
                if !self.table.has_unasked() {
                    self.failures = 0;
                }
            }
            (Question::Subscribe(id), Err(Failure::Refused(error))) => {
                self.table.refuse(*id, &self.server.trouble(format_args!("{error}")));
                self.note_subscriptions();
            }
            (Question::Unsubscribe | Question::Ping, Err(Failure::Refused(error))) => {
                tracing::debug!(%error, "Redis refused what the subscriptions asked");
            }
            (Question::Unsubscribe | Question::Ping, Ok(())) => {}
        }
        Ok(())
    }

    /// Handles what the server said by itself.
    fn take(&mut self, push: Option<PushInfo>, asked: Option<&Question>) -> Result<(), Trouble> {
        match push {
            Some(push) if push.kind == PushKind::Message => self.table.publish(push, &self.gauges),
            Some(push) if push.kind == PushKind::Subscribe => {
                if let (Some(Question::Subscribe(id)), Some([channel])) = (asked, texts(push)) {
                    self.table.acknowledge(*id, &channel);
                }
            }
            Some(push) if push.kind != PushKind::Disconnection => {}
            _ => return Err(self.server.trouble(format_args!("the connection ended"))),
        }
        Ok(())
    }

    fn follow(&mut self, order: Option<Order>) -> Result<(), Gone> {
        match order.ok_or(Gone)? {
            Order::Subscribe(subscriber) => self.table.add(subscriber),
            Order::Leave(id) => drop(self.table.remove(id)),
        }
        self.note_subscriptions();
        Ok(())
    }

    fn note_subscriptions(&self) {
        self.gauges.subscriptions.store(self.table.len(), Ordering::Relaxed);
    }
}

/// The answer to what was asked, with the question; nothing when nothing was.
async fn answer(asked: &mut Option<(Question, Answer)>) -> Option<(Question, Result<(), Failure>)> {
    let (_, answer) = asked.as_mut()?;
    let answer = answer.await;
    let (question, _) = asked.take()?;
    Some((question, answer))
}

fn bytes(channels: &[Arc<str>]) -> Vec<Vec<u8>> {
    channels.iter().map(|channel| channel.as_bytes().to_vec()).collect()
}
