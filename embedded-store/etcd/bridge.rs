//! The general path of a call: a task of its own that goes through the tonic services, piece by piece in both
//! directions.
//!
//! Nothing is produced that the client does not read: the next piece of an answer is requested when there is
//! room for it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tower::ServiceExt;

use super::unary::poll_room;

/// Answers a call. If the client takes it back, the service's side is dropped.
pub(super) async fn answer(services: Router, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let request = request.map(|body| Body::new(Incoming { body, ended: false }));
    let answer = services.oneshot(request);
    let response: Result<Response<Body>, Infallible> = tokio::select! {
        response = answer => response,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let Ok(response) = response;
    let (head, body) = response.into_parts();
    let over = body.is_end_stream();
    let sent = respond.send_response(Response::from_parts(head, ()), over);
    let Ok(stream) = sent else { return };
    if !over && let Err(e) = pass(body, stream).await {
        tracing::trace!("an answer on the etcd API: {e}");
    }
}

/// Sends a body as the client takes it.
async fn pass(mut body: Body, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        stream.reserve_capacity(1);
        let frame = poll_fn(|cx| {
            if stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Ok(Next::Gone));
            }
            if !ready!(poll_room(&mut stream, cx))? {
                return Poll::Ready(Ok(Next::Gone));
            }
            let frame = ready!(Pin::new(&mut body).poll_frame(cx));
            Poll::Ready(Ok::<_, h2::Error>(match frame {
                Some(Ok(frame)) => Next::Frame(frame),
                Some(Err(_)) => Next::Failed,
                None => Next::End,
            }))
        });
        match frame.await? {
            Next::Frame(frame) => match frame.into_data() {
                Ok(data) => stream.send_data(data, false)?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return stream.send_trailers(trailers);
                    }
                }
            },
            Next::End => return stream.send_data(Bytes::new(), true),
            Next::Failed => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Next::Gone => return Ok(()),
        }
    }
}

enum Next {
    Frame(Frame<Bytes>),
    End,
    Failed,
    /// The client takes no more.
    Gone,
}

/// What the client sends, as the services read it.
struct Incoming {
    body: RecvStream,
    /// Only trailers can follow.
    ended: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.ended {
            match ready!(this.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = this.body.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(e)) if e.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => this.ended = true,
            }
        }
        let trailers = ready!(this.body.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
