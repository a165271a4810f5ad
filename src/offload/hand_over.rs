//! The step from the foreground to the background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::hooks::{
    ClassifyResult, DeliverResult, Delivery, Hooks, OffloadCall, Offloaded, RespondOffloaded,
};
use super::layer::Config;
use crate::manager::{Admission, CallToken, Seen, in_background};

/// A call in the foreground: all that moves at a hand-over.
pub(super) struct InFlight<F, K, H> {
    pub(super) future: Pin<Box<F>>,
    /// `None`: this call stays in the foreground.
    pub(super) call: Option<K>,
    pub(super) token: CallToken,
    pub(super) config: Arc<Config<H>>,
    /// It has been polled.
    pub(super) started: bool,
    /// The span that it was polled in, if dropping it may hand it over: it is dropped outside of all spans.
    pub(super) span: Option<Span>,
}

impl<F, K: OffloadCall, H> InFlight<F, K, H> {
    pub(super) fn timeout(&self) -> Duration {
        self.call.as_ref().and_then(OffloadCall::timeout).unwrap_or(self.config.timeout)
    }
}

impl<F, K, M, P, C, D, Response, Error> InFlight<F, K, Hooks<M, P, C, D>>
where
    F: Future<Output = Result<Response, Error>> + Send + 'static,
    Response: Send + 'static,
    Error: Send + 'static,
    K: OffloadCall,
    M: Send + Sync + 'static,
    P: RespondOffloaded<K, Response> + Send + Sync + 'static,
    C: ClassifyResult<Response, Error> + Send + Sync + 'static,
    D: DeliverResult<K, Response, Error> + Send + Sync + 'static,
{
    /// The deadline has come: moves the call and answers its caller, or gives it back to go on in the foreground.
    pub(super) fn hand_over(mut self) -> Result<Response, Self> {
        let timeout = self.timeout();
        let Some(call) = self.call.take() else { return Err(self) };
        match self.config.manager.admit(call.meta(), &mut self.token) {
            Ok(admission) => {
                let offloaded = Offloaded { task: admission.record(), call: &call, timeout };
                let response = self.config.hooks.respond.respond(&offloaded);
                self.span = None;
                self.run(admission, call);
                Ok(response)
            }
            Err(refused) => match self.config.hooks.respond.refuse(&call, refused) {
                Some(response) => {
                    self.token.cancel();
                    Ok(response)
                }
                None => Err(self),
            },
        }
    }

    /// The caller has left: moves the call if it is under way and may.
    pub(super) fn abandon(mut self) {
        let call = self.call.take().filter(|_| {
            // A caller that panics takes its call along: hooks that panic on top of that would abort the process. And a
            // call within a task that is stopped goes with it.
            self.started && !std::thread::panicking() && !in_background()
        });
        let Some(call) = call else { return self.token.cancel() };
        // In a destructor nothing may panic.
        let admitted = catch_unwind(AssertUnwindSafe(|| {
            let admission = self.config.manager.admit(call.meta(), &mut self.token).ok()?;
            Some((admission, call))
        }));
        match admitted {
            Ok(Some((admission, call))) => self.run(admission, call),
            Ok(None) | Err(_) => self.token.cancel(),
        }
    }

    fn run(self, admission: Admission, call: K) {
        let classifier = Arc::clone(&self.config);
        let classify = move |result: &F::Output| classifier.hooks.classify.classify(result.as_ref());
        let config = self.config;
        let last_will = config.manager.bus().is_shared().then(|| {
            // The call is answered already, or its caller has left: a hook that panics must not undo that.
            let will = AssertUnwindSafe(|| config.hooks.deliver.last_will(&call, admission.record()));
            catch_unwind(will).ok().flatten()
        });
        let deliver = move |task, ended, seen: Seen| async move {
            let delivery = config.hooks.deliver.deliver(Delivery { call, task, ended });
            seen.wait().await;
            delivery.await
        };
        admission.run(self.future, self.token, self.span, last_will.flatten(), classify, deliver);
    }
}
