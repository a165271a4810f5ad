use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::offload::StartSignal;

/// Watches the body of a request, so that its call can be handed over once the body has been read to its end.
///
/// Some clients stop sending as soon as they see an answer: with a `202 Accepted` in the middle of an upload, the
/// upload is lost. So a request that is still being sent [stays in the foreground](super::Rule::Body), unless its body
/// is watched: then the timeout of its call begins when the service has read the body to its end, got an error from it,
/// or dropped it.
///
/// `BackgroundTasks::layer` (feature `api`) does this for axum, and wraps no body that is at its end already. For other
/// stacks this is the function to put in front of [`layer`](super::layer), with
/// [`ServiceBuilder::map_request`](https://docs.rs/tower/latest/tower/builder/struct.ServiceBuilder.html#method.map_request):
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_offload::TaskManager;
/// use tower_offload::http::{WatchedBody, layer, watch_body};
///
/// let service = ServiceBuilder::new()
///     .map_request(watch_body::<Full<Bytes>>)
///     .layer(layer(TaskManager::new(), Duration::from_secs(10)))
///     .service_fn(async |request: Request<WatchedBody<Full<Bytes>>>| {
///         let body = request.into_body().collect().await?.to_bytes();
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, std::convert::Infallible>(Response::new(Full::new(body)))
///     });
/// let request = Request::post("/reports").header("x-user-id", "alice").body(Full::new(Bytes::from("2026")))?;
/// assert_eq!(service.oneshot(request).await?.status(), 202);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn watch_body<B: Body>(request: Request<B>) -> Request<WatchedBody<B>> {
    let (mut parts, body) = request.into_parts();
    let end = StartSignal::new();
    let body = WatchedBody { end: Ending(end.clone()), body };
    if body.body.is_end_stream() {
        end.give();
    }
    parts.extensions.insert(BodyEnd(end));
    Request::from_parts(parts, body)
}

pin_project! {
    /// A request body that says when it has been read to its end: see [`watch_body`].
    ///
    /// Frames, errors, [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) are those of the body
    /// within.
    pub struct WatchedBody<B> {
        #[pin]
        body: B,
        end: Ending,
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = this.body.as_mut().poll_frame(cx);
        let is_at_end = match &frame {
            Poll::Pending => false,
            Poll::Ready(None | Some(Err(_))) => true,
            // Readers of a known length do not poll again after the last byte.
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || this.body.is_end_stream(),
        };
        if is_at_end {
            this.end.0.give();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for WatchedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").field("is_read", &self.end.0.is_given()).finish_non_exhaustive()
    }
}

/// Gives the signal when it is dropped with its body, which is read no further then.
struct Ending(StartSignal);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// The signal for the end of a request's body, in the extensions of the request.
#[derive(Clone)]
pub(super) struct BodyEnd(pub(super) StartSignal);
