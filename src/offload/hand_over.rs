//! The step from the foreground to the background.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::hooks::{
    ClassifyResult, DeliverResult, Delivery, Hooks, OffloadCall, Offloaded, RespondOffloaded,
};
use super::layer::Config;
use crate::bus;
use crate::manager::{BoxError, CallState, Ended, Published, Work, in_background};
use crate::panics;
use crate::task::{Settlement, TaskRecord};
use crate::telemetry;

pin_project! {
    /// A call, with all that moves at a hand-over.
    pub(super) struct InFlight<F, K, H> {
        // `None` once it was dropped.
        #[pin]
        future: Option<F>,
        // `None`: this call stays in the foreground.
        pub(super) call: Option<K>,
        pub(super) config: Arc<Config<H>>,
        pub(super) state: CallState,
    }

    impl<F, K, H> PinnedDrop for InFlight<F, K, H> {
        // However it comes to be dropped: the caller has left, or a hook or the future itself has panicked.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.state.drop_future(this.future);
        }
    }
}

impl<F, K, H> InFlight<F, K, H> {
    /// The box of a call that stays in the foreground, and that [`start`](Self::start) gives its future.
    ///
    /// A build without optimisation keeps each value that passes through a function on the stack. So the box comes first,
    /// and what is kept of the call and its future move once, to where they stay: a future of half a megabyte fits on the
    /// stack of a thread.
    pub(super) fn boxed(config: Arc<Config<H>>) -> Box<Self> {
        Box::new(Self { future: None, call: None, config, state: CallState::default() })
    }

    /// Makes the future.
    #[inline]
    pub(super) fn start(mut self: Box<Self>, make: impl FnOnce() -> F) -> Pin<Box<Self>> {
        // Not with `Pin::set`, which drops the `None` after the future is made: the future would wait for that on the stack.
        self.future.get_or_insert_with(make);
        Box::into_pin(self)
    }
}

impl<F: Future, K, H> InFlight<F, K, H> {
    /// Polls the future, as part of the call.
    pub(super) fn poll_future(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.state.poll_future(this.future, cx)
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
    pub(super) fn hand_over(mut self: Pin<Box<Self>>, timeout: Duration) -> Result<Response, Pin<Box<Self>>> {
        let timing = telemetry::HandOver::start();
        let this = self.as_mut().project();
        let Config { manager, hooks, .. } = &**this.config;
        // Of two layers the outer one has handed over: its task is this call's caller.
        let Some(call) = this.call.take().filter(|_| !in_background()) else {
            return Err(self);
        };
        match manager.admit(call.meta(), this.state) {
            Ok(admission) => {
                let offloaded = Offloaded { task: admission.record(), call: &call, timeout };
                let response = hooks.respond.respond(&offloaded);
                *this.call = Some(call);
                this.state.forget_span();
                admission.run(self);
                timing.end();
                Ok(response)
            }
            Err(refused) => match hooks.respond.refuse(&call, refused) {
                Some(response) => {
                    drop(self);
                    Ok(response)
                }
                None => Err(self),
            },
        }
    }

    /// The caller has left a call that is under way: moves it if it may, and else drops it.
    pub(super) fn abandon(mut self: Pin<Box<Self>>) {
        // A caller that panics takes its call along: hooks that panic on top of that would abort the process. And a
        // call within a task that is stopped goes with it.
        let may_move = !std::thread::panicking() && !in_background();
        if !may_move {
            return;
        }
        // In a destructor nothing may panic.
        panics::quietly(move || {
            let this = self.as_mut().project();
            let Some(call) = this.call.as_ref() else { return };
            if let Ok(admission) = this.config.manager.admit(call.meta(), this.state) {
                admission.run(self);
            }
        });
    }
}

impl<F, K, M, P, C, D, Response, Error> Work for InFlight<F, K, Hooks<M, P, C, D>>
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
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.poll_future(cx)
    }

    fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        this.state.drop_future(this.future);
    }

    fn state(self: Pin<&mut Self>) -> &mut CallState {
        self.project().state
    }

    fn classify(&self, output: &F::Output) -> Settlement {
        self.config.hooks.classify.classify(output.as_ref())
    }

    fn last_will(&self, task: &TaskRecord) -> Option<bus::Delivery> {
        let call = self.call.as_ref()?;
        self.config.hooks.deliver.last_will(call, task)
    }

    fn delivers(&self) -> bool {
        !D::NOTHING
    }

    fn deliver(
        mut self: Pin<Box<Self>>,
        task: TaskRecord,
        ended: Ended<F::Output>,
        published: Published,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let this = self.as_mut().project();
        let (call, config) = (this.call.take(), Arc::clone(this.config));
        async move {
            let Some(call) = call else { return Ok(()) };
            let delivery = config.hooks.deliver.deliver(Delivery { call, task, ended });
            published.then(delivery).await
        }
    }
}
