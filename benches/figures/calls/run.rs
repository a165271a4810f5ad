//! How the calls are made: one after the other, or many at once.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use super::variants::{Visit, answered};
use crate::measure::process::cpu_time;
use crate::measure::runtime::on;

/// One after the other by one task, for `calls` calls.
pub(crate) struct OneByOne<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) calls: u64,
    /// Whether this happens inside a span.
    pub(crate) in_span: bool,
    pub(crate) took: &'a mut Duration,
}

impl Visit for OneByOne<'_> {
    fn visit<S, R>(self, service: S, request: impl Fn(u64) -> R + Clone + Send + Sync + 'static)
    where
        S: Service<R, Future: Send + 'static> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        R: Send + 'static,
    {
        let calls = call(service, request, self.calls);
        let begun = Instant::now();
        if self.in_span {
            on(self.runtime, calls.instrument(tracing::info_span!("caller")));
        } else {
            on(self.runtime, calls);
        }
        *self.took = begun.elapsed();
    }
}

async fn call<S, R>(mut service: S, request: impl Fn(u64) -> R, calls: u64)
where
    S: Service<R>,
{
    for number in 0..calls {
        let Ok(service) = service.ready().await else { panic!("a service is ready") };
        answered(service.call(request(number))).await;
    }
}

/// By 500 tasks at once; the time is that of the processor.
pub(crate) struct AtOnce<'a> {
    pub(crate) runtime: &'a Runtime,
    /// Calls of each task.
    pub(crate) calls: u64,
    pub(crate) took: &'a mut Duration,
}

pub(crate) const TASKS: u64 = 500;

impl Visit for AtOnce<'_> {
    fn visit<S, R>(self, service: S, request: impl Fn(u64) -> R + Clone + Send + Sync + 'static)
    where
        S: Service<R, Future: Send + 'static> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Send,
        R: Send + 'static,
    {
        let calls = self.calls;
        let before = cpu_time();
        on(self.runtime, async move {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (service, request) = (service.clone(), request.clone());
                    tokio::spawn(async move { call(service, request, calls).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap_or_else(|error| panic!("{error}"));
            }
        });
        *self.took = cpu_time().saturating_sub(before);
    }
}
