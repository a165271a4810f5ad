//! A task for each call, as AgentScope's middleware does it: the call runs there from its start, and the caller waits
//! for it or for the deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{BoxError, Service};

#[derive(Clone, Debug)]
pub(crate) struct Spawned<S> {
    inner: S,
    timeout: Duration,
}

impl<S> Spawned<S> {
    pub(crate) const fn new(inner: S, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

impl<S, R> Service<R> for Spawned<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let task = tokio::spawn(self.inner.call(request));
        let timeout = self.timeout;
        Box::pin(async move {
            tokio::select! {
                biased;
                done = task => done?.map_err(Into::into),
                () = tokio::time::sleep(timeout) => Err("it goes on in the background".into()),
            }
        })
    }
}
