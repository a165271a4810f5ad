use std::sync::Arc;

use super::cache::Cache;
use crate::http::Identity;
use crate::manager::TaskManager;

/// What the handlers need. Their state, so that the host's can be any type.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) manager: TaskManager,
    pub(super) identity: Identity,
    /// Of lists of this manager and no other: versions mean nothing elsewhere.
    pub(super) cache: Arc<Cache>,
}
