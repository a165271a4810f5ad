//! Whose a session is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tower_offload::bus::{self, SharedBus};
use tower_offload::manager::BoxError;
use tower_offload::offload::{DeliverResult, Delivery};
use tower_offload::tool::{DeliverHint, ToolResponse};
use tower_offload::{TaskMeta, TaskRecord};

/// For how long a session stays its user's after the last call in it that moved to the background.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many sessions the process remembers.
const REMEMBERED: usize = 10_000;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Clients choose the ids of sessions, and two users may choose the same. So each user has an inbox of its own in each
/// session, under a name that is longer than the session's, and a session of such a name is nobody's.
///
/// On a bus that processes share, a runner of AgentScope may look into the inbox of the session's own name. The first
/// user whose call moves to the background claims that name on the bus. A fast call and a drain claim nothing, and on a
/// bus of one process there are no claims: sessions, of which a client can make up any number, leave nothing behind.
///
/// A claim trusts the client: a user who guesses the name of a session before its own user calls a tool in it reads, and with
/// `ack` removes, what runners of AgentScope deliver to that name. Where users do not trust each other the host has to make
/// the names of sessions, and they have to be unguessable. On a shared bus each session with a call that has moved leaves one
/// claim for a week.
#[derive(Clone)]
pub(crate) struct Sessions {
    bus: SharedBus,
    /// By session, the user that was asked for last.
    known: Arc<Mutex<HashMap<Arc<str>, Known>>>,
}

struct Known {
    user: Arc<str>,
    own: bool,
}

impl Sessions {
    pub(crate) fn new(bus: SharedBus) -> Self {
        Self { bus, known: Arc::default() }
    }

    /// Whether the session is the user's. It is from now on, if it was nobody's.
    async fn claim(&self, user: &str, session: &str) -> bus::Result<bool> {
        if !self.can_be_claimed(session) {
            return Ok(false);
        }
        let claim = claim_of(session);
        let own =
            self.bus.try_acquire(&claim, user, KEPT).await? || self.bus.renew(&claim, user, KEPT).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(session.into(), Known { user: user.into(), own });
        Ok(own)
    }

    fn can_be_claimed(&self, session: &str) -> bool {
        self.bus.is_shared() && !is_of_some_user(session)
    }

    /// Claims the session in the background, for a call that is likely to move there.
    pub(crate) fn claim_soon(&self, user: &str, session: &str) {
        if !self.can_be_claimed(session) || self.known(user, session).is_some() {
            return;
        }
        let (this, user, session) = (self.clone(), user.to_owned(), session.to_owned());
        tokio::spawn(async move {
            if let Err(error) = this.claim(&user, &session).await {
                tracing::debug!(%error, session, "the session is not claimed yet");
            }
        });
    }

    fn known(&self, user: &str, session: &str) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(session).filter(|known| *known.user == *user).map(|known| known.own)
    }

    /// The names of the inboxes that may have something for the user in the session.
    pub(crate) async fn inboxes(&self, user: &str, session: &str) -> bus::Result<Vec<String>> {
        let mut inboxes = vec![of_user(user, session)];
        if self.can_be_claimed(session) && self.bus.renew(&claim_of(session), user, KEPT).await? {
            inboxes.push(session.to_owned());
        }
        Ok(inboxes)
    }
}

fn claim_of(session: &str) -> String {
    format!("agentscope:agent_service:session:{session}")
}

/// The name of the user's own inbox in the session. The length keeps `a/b` and `c` apart from `a` and `b/c`.
fn of_user(user: &str, session: &str) -> String {
    format!("{}/{user}/{session}", user.len())
}

/// Whether [`of_user`] makes such names. The user of a session of that name could read another user's inbox.
fn is_of_some_user(session: &str) -> bool {
    let length = session.split_once('/').map(|(length, _)| length);
    length.is_some_and(|length| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Delivers to the inbox of the user and the session.
#[derive(Clone)]
pub(crate) struct DeliverToUser {
    hint: DeliverHint,
    sessions: Sessions,
}

impl DeliverToUser {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self { hint: DeliverHint::new(Arc::clone(&sessions.bus)), sessions }
    }
}

fn move_to_user(meta: &mut TaskMeta) {
    *meta = meta.clone().with_session(of_user(meta.user_id(), meta.session_id()));
}

impl<Call, E> DeliverResult<Call, ToolResponse, E> for DeliverToUser
where
    Call: Send,
    E: fmt::Display + Send,
{
    async fn deliver(&self, mut delivery: Delivery<Call, ToolResponse, E>) -> Result<(), BoxError> {
        let mut wait = FIRST_RETRY;
        let own = loop {
            let meta = &delivery.task.meta;
            match self.sessions.claim(meta.user_id(), meta.session_id()).await {
                Ok(own) => break own,
                Err(error) => tracing::debug!(%error, "the session is not claimed yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        };
        if !own {
            move_to_user(&mut delivery.task.meta);
        }
        self.hint.deliver(delivery).await
    }

    fn last_will(&self, call: &Call, task: &TaskRecord) -> Option<bus::Delivery> {
        let mut task = task.clone();
        // To the user's own inbox, unless the claim on the session is known.
        if self.sessions.known(task.meta.user_id(), task.meta.session_id()) != Some(true) {
            move_to_user(&mut task.meta);
        }
        DeliverResult::<Call, ToolResponse, E>::last_will(&self.hint, call, &task)
    }
}
