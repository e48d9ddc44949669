//! What becomes of a body that was not read, on HTTP/1.1: the next request of the connection is behind it.
//!
//! A small rest is read and thrown away, so that a client whose request was refused keeps its connection.
//! Otherwise the answer says `Connection: close`: a client that was not told would lose its next request.
//! Go's server does the same, with the same bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;

/// Bytes that are read for nothing.
const MOST: u64 = 256 * 1024;
/// How long a client has to send them.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a body is put that its reader has let go of before its end.
pub(super) struct Unread {
    rest: Arc<Mutex<Option<Incoming>>>,
    /// The client sends the body only when it is told to go on.
    waits: bool,
}

/// A body on loan.
struct Lent {
    body: Option<Incoming>,
    rest: Arc<Mutex<Option<Incoming>>>,
}

pub(super) fn lend(body: Incoming, headers: &HeaderMap) -> (Body, Unread) {
    let rest = Arc::default();
    let unread = Unread { rest: Arc::clone(&rest), waits: headers.contains_key(EXPECT) };
    if body.is_end_stream() {
        return (Body::new(body), unread);
    }
    (Body::new(Lent { body: Some(body), rest }), unread)
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.lock() = Some(body);
        }
    }
}

impl Unread {
    /// Reads the rest of the body, or has the answer say that the connection ends.
    pub(super) async fn settle<B>(self, mut answer: Response<B>) -> Response<B> {
        let Some(rest) = self.rest.lock().take() else { return answer };
        let is_small = !self.waits && rest.size_hint().lower() <= MOST;
        if !is_small || !matches!(tokio::time::timeout(READ_TIMEOUT, drain(rest)).await, Ok(true)) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// Whether the end came.
async fn drain(mut rest: Incoming) -> bool {
    let mut read = 0;
    while let Some(frame) = rest.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > MOST {
            return false;
        }
    }
    true
}
