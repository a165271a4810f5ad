use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::hand_over::InFlight;
use super::hooks::{ClassifyResult, DeliverResult, DescribeCall, Hooks, RespondOffloaded};
use super::layer::Config;
use super::plan::Terms;
use crate::log_limit::LogLimit;
use crate::panics;
use crate::task::logged;

/// The service that [`OffloadLayer`](super::OffloadLayer) makes.
///
/// Cloning clones the inner service; the hooks and the manager are shared.
pub struct Offload<S, H> {
    inner: S,
    config: Arc<Config<H>>,
}

impl<S, H> Offload<S, H> {
    pub(super) const fn new(inner: S, config: Arc<Config<H>>) -> Self {
        Self { inner, config }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, H> Clone for Offload<S, H> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: Arc::clone(&self.config) }
    }
}

impl<S: fmt::Debug, H> fmt::Debug for Offload<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload")
            .field("inner", &self.inner)
            .field("timeout", &self.config.timeout)
            .finish_non_exhaustive()
    }
}

impl<S, Request, M, P, C, D> Service<Request> for Offload<S, Hooks<M, P, C, D>>
where
    S: Service<Request>,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    M: DescribeCall<Request> + Send + Sync + 'static,
    P: RespondOffloaded<M::Call, S::Response> + Send + Sync + 'static,
    C: ClassifyResult<S::Response, S::Error> + Send + Sync + 'static,
    D: DeliverResult<M::Call, S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Call, Hooks<M, P, C, D>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // In here, because the service may be called in a task that many callers share, such as that of `tower::buffer`: a
        // panic would end it.
        let mut in_flight = InFlight::boxed(Arc::clone(&self.config));
        let mut terms = Terms::default();
        let described = panics::catch(|| {
            let plan = self.config.hooks.describe.describe_call(&request);
            (in_flight.call, terms) = (plan.call, plan.terms);
        });
        if let Err(message) = described {
            log_not_described(message);
        }
        ResponseFuture::new(in_flight.start(|| self.inner.call(request)), terms)
    }
}

/// A call whose describer has panicked stays in the foreground.
#[cold]
fn log_not_described(message: String) {
    static LINES: LogLimit = LogLimit::new();
    LINES.write(|left_out| {
        tracing::error!(
            error = logged(message),
            left_out,
            "a hook that describes calls panicked; the call stays in the foreground"
        );
    });
}
