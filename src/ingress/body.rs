//! Bodies on their way through: nothing is gathered, each piece is passed on as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::pool::Lease;
use crate::record::Record;

/// Why a request's body did not come whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the client's connection failed")]
    Client(#[from] hyper::Error),
    #[error("the client has sent nothing of the body for {} s", .0.as_secs())]
    Slow(Duration),
}

/// A request's body.
pub(crate) enum Upload {
    Nothing,
    Passed {
        body: Incoming,
        /// How long the client may send nothing.
        patience: Option<Duration>,
        waiting: Option<Pin<Box<Sleep>>>,
    },
}

impl Upload {
    pub(crate) fn new(body: Incoming, patience: Option<Duration>) -> Self {
        if body.is_end_stream() { Upload::Nothing } else { Upload::Passed { body, patience, waiting: None } }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Upload::Passed { body, patience, waiting } = self.get_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            *waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(UploadError::from)));
        }
        let Some(limit) = *patience else { return Poll::Pending };
        let sleep = waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(UploadError::Slow(limit))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Nothing => true,
            Upload::Passed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Nothing => SizeHint::with_exact(0),
            Upload::Passed { body, .. } => body.size_hint(),
        }
    }
}

/// An answer's body. With its end, the connection to the backend is free for another request.
pub(crate) enum Reply {
    Text(Option<Bytes>, Record),
    Passed { body: Incoming, lease: Option<Lease>, record: Record },
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Reply::Text(text, record) => Poll::Ready(text.take().map(|text| {
                record.bytes += text.len() as u64;
                Ok(Frame::data(text))
            })),
            Reply::Passed { body, lease, record } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    record.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                let over = frame.is_none() || body.is_end_stream();
                if over
                    && !matches!(frame, Some(Err(_)))
                    && let Some(lease) = lease.take()
                {
                    lease.give_back();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Text(text, _) => text.is_none(),
            Reply::Passed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Text(text, _) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Reply::Passed { body, .. } => body.size_hint(),
        }
    }
}
