//! Who may use the service, and whose a request is.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use http::HeaderName;
use tower_offload::http::{Caller, IdentifyUser, Identity, RequestHead, Unidentified};

/// The users of the service. All routes tell by it whose a request is.
#[derive(Clone)]
pub(crate) struct Users {
    identity: Identity,
    /// Empty: each user may use the service.
    allowed: Arc<BTreeSet<String>>,
}

impl Users {
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self { identity: Identity::new(), allowed: Arc::new(allowed.into_iter().collect()) }
    }
}

impl IdentifyUser for Users {
    fn identify(&self, head: &RequestHead<'_>) -> Result<Caller, Unidentified> {
        let caller = self.identity.caller(head)?;
        if self.allowed.is_empty() || self.allowed.contains(caller.user_id()) {
            Ok(caller)
        } else {
            Err(Unidentified::new("This user may not use the service."))
        }
    }

    fn header_name(&self) -> Option<&HeaderName> {
        self.identity.header_name()
    }
}

/// The user that a request is of.
pub(crate) struct User(pub(crate) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Unidentified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Unidentified> {
        let users = parts.extensions.get::<Users>();
        let users = users.ok_or_else(|| Unidentified::new("The service has no users."))?;
        let caller = users.identify(&RequestHead::from(&*parts))?;
        Ok(Self(caller.user_id().into()))
    }
}
