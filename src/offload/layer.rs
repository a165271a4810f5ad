use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::Offload;
use super::deadline::Deadlines;
use super::hooks::{ErrIsFailure, Hooks, Unset};
use crate::manager::TaskManager;

/// What happens to a call whose caller leaves (drops the response future) before the deadline.
///
/// A call that was never polled has not started; it is dropped in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// The work is dropped, as in every tower stack.
    #[default]
    Cancel,
    /// The work moves to the background at once and is tracked like any other. If it is not admitted, it is dropped,
    /// and so it is when the caller leaves because it panics, or is itself part of a background task.
    HandOver,
}

/// What all clones of a service share.
#[derive(Debug)]
pub(super) struct Config<H> {
    pub(super) manager: TaskManager,
    pub(super) timeout: Duration,
    pub(super) deadlines: Deadlines,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) hooks: H,
}

/// A [`Layer`] that hands slow calls over to a [`TaskManager`].
///
/// See the [module](super) for what it does and for an example.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct OffloadLayer<H = Hooks<Unset, Unset, ErrIsFailure, ()>> {
    manager: TaskManager,
    timeout: Duration,
    // Of all services that it makes: a router makes one for each route.
    deadlines: Deadlines,
    on_disconnect: OnDisconnect,
    hooks: H,
}

impl OffloadLayer {
    /// A layer that hands over to `manager` what is not done after `timeout`. The hooks for
    /// [describing](Self::describe) and [answering](Self::respond) have to be set.
    ///
    /// With [`Duration::ZERO`] every call that is not ready at once is handed over; with [`Duration::MAX`] none is.
    pub fn new(manager: TaskManager, timeout: Duration) -> Self {
        let hooks = Hooks { describe: Unset, respond: Unset, classify: ErrIsFailure, deliver: () };
        let deadlines = Deadlines::new(timeout);
        Self { manager, timeout, deadlines, on_disconnect: OnDisconnect::Cancel, hooks }
    }
}

impl<M, P, C, D> OffloadLayer<Hooks<M, P, C, D>> {
    /// What a call is, and by whom: a [`DescribeCall`](super::DescribeCall).
    pub fn describe<T>(self, describe: T) -> OffloadLayer<Hooks<T, P, C, D>> {
        self.map(|Hooks { respond, classify, deliver, .. }| Hooks { describe, respond, classify, deliver })
    }

    /// What the caller gets in place of the result: a [`RespondOffloaded`](super::RespondOffloaded).
    pub fn respond<T>(self, respond: T) -> OffloadLayer<Hooks<M, T, C, D>> {
        self.map(|Hooks { describe, classify, deliver, .. }| Hooks { describe, respond, classify, deliver })
    }

    /// Which results are failures: a [`ClassifyResult`](super::ClassifyResult). Default: [`ErrIsFailure`].
    pub fn classify<T>(self, classify: T) -> OffloadLayer<Hooks<M, P, T, D>> {
        self.map(|Hooks { describe, respond, deliver, .. }| Hooks { describe, respond, classify, deliver })
    }

    /// Where the results go: a [`DeliverResult`](super::DeliverResult). Default: nowhere.
    pub fn deliver<T>(self, deliver: T) -> OffloadLayer<Hooks<M, P, C, T>> {
        self.map(|Hooks { describe, respond, classify, .. }| Hooks { describe, respond, classify, deliver })
    }
}

impl<H> OffloadLayer<H> {
    fn map<T>(self, hooks: impl FnOnce(H) -> T) -> OffloadLayer<T> {
        let Self { manager, timeout, deadlines, on_disconnect, hooks: old } = self;
        OffloadLayer { manager, timeout, deadlines, on_disconnect, hooks: hooks(old) }
    }

    /// What happens to a call whose caller leaves before the deadline. Default: [`OnDisconnect::Cancel`].
    pub const fn on_disconnect(mut self, on_disconnect: OnDisconnect) -> Self {
        self.on_disconnect = on_disconnect;
        self
    }
}

impl<S, H: Clone> Layer<S> for OffloadLayer<H> {
    type Service = Offload<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { manager, timeout, deadlines, on_disconnect, hooks } = self.clone();
        Offload::new(inner, Arc::new(Config { manager, timeout, deadlines, on_disconnect, hooks }))
    }
}
