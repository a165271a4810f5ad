//! AgentScope and we on one Redis.

use std::fmt;
use std::future::Future;

use serde_json::Value;
use tower_offload::bus::SharedBus;
use tower_offload::{TaskManager, ToolCall, ToolResponse};

use crate::ours::{all_delivered, manager, offload, task_id};
use crate::peer::{Peer, array};
use crate::redis_server::RedisServer;

pub(crate) struct Both {
    pub(crate) manager: TaskManager,
    pub(crate) peer: Peer,
    pub(crate) redis: RedisServer,
}

impl Both {
    pub(crate) async fn start() -> Self {
        let redis = RedisServer::start();
        let peer = Peer::start(&redis.url()).await;
        Self { manager: manager(&redis), peer, redis }
    }

    pub(crate) fn bus(&self) -> &SharedBus {
        self.manager.bus()
    }

    /// The id of the task that `call` becomes.
    pub(crate) async fn offload<F, E>(&self, call: ToolCall, work: F) -> String
    where
        F: Future<Output = Result<ToolResponse, E>> + Send + 'static,
        E: fmt::Display + fmt::Debug + Send + 'static,
    {
        task_id(&offload(&self.manager, call, work).await).to_string()
    }

    /// The one entry of an inbox: as it is, and as AgentScope reads it.
    pub(crate) async fn hint(&self, session: &str) -> (String, Value) {
        all_delivered(&self.manager).await;
        let raw = self.raw(session).await;
        let [hint] = self.peer.drain(session).await.try_into().unwrap();
        (raw, hint)
    }

    /// The one entry of an inbox, as it is.
    pub(crate) async fn raw(&self, session: &str) -> String {
        let entries = self.peer.redis(&["XRANGE", &format!("agentscope:inbox:{session}"), "-", "+"]).await;
        let [entry] = array(entries).try_into().unwrap();
        entry[1]["payload"].as_str().unwrap().to_owned()
    }
}
