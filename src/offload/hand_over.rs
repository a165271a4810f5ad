//! The step from the foreground to the background.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::hooks::{
    ClassifyResult, DeliverResult, Delivery, Hooks, OffloadCall, Offloaded, RespondOffloaded,
};
use super::layer::Config;
use crate::manager::{Admission, CallToken};

/// A call in the foreground: all that moves at a hand-over.
pub(super) struct InFlight<F, K, H> {
    pub(super) future: Pin<Box<F>>,
    /// `None`: this call stays in the foreground.
    pub(super) call: Option<K>,
    pub(super) token: CallToken,
    pub(super) config: Arc<Config<H>>,
    /// It has been polled.
    pub(super) started: bool,
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
        if let Some(call) = self.call.take().filter(|_| self.started)
            && let Ok(admission) = self.config.manager.admit(call.meta(), &mut self.token)
        {
            self.run(admission, call);
        } else {
            self.token.cancel();
        }
    }

    fn run(self, admission: Admission, call: K) {
        let classifier = Arc::clone(&self.config);
        let classify = move |result: &F::Output| classifier.hooks.classify.classify(result.as_ref());
        let config = self.config;
        let deliver = move |task, ended| async move {
            config.hooks.deliver.deliver(Delivery { call, task, ended }).await
        };
        admission.run(self.future, self.token, classify, deliver);
    }
}
