//! The body of every answer, and the bound on how long its reader may stand still.
//!
//! An answer is handed to HTTP/2 in slices of [`SLICE`], the next once the one before has left, so that what
//! is not read stays where it is shared: in the cache, or in what makes the answer piece by piece. The end of
//! an answer that is not small is kept back as well: the request counts as under way, with all that goes with
//! it, until its reader has taken it.
//!
//! HTTP/1.1 fails on a socket that takes nothing ([`supervisor::WriteTimeout`]). With HTTP/2 a client can
//! read the connection and leave one stream unread, and nobody polls such a stream. So each stream knows
//! whose [`Turn`] it is, and the task that it runs as drops it, which resets it, once its reader has been
//! awaited for too long.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use supervisor::{OnExit, Stage};
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Sleep;

use super::peer::{InFlight, milliseconds};
use crate::fairness::Seat;
use crate::limits::Timeouts;

/// Most that HTTP/2 is given at a time.
const SLICE: usize = 64 * 1024;
/// An answer up to this size leaves the server's hands at once.
const SMALL: usize = 4 * 1024;

/// Set as an extension of responses that people page through: logs, what nodes answer.
#[derive(Clone)]
pub(super) struct Unhurried;

/// Set as an extension of answers whose work goes on after them: tunnels. The last clone that is dropped
/// gives the request's seat back.
#[derive(Clone, Default)]
pub(super) struct SeatKeeper(Arc<OnceLock<Seat>>);

impl SeatKeeper {
    /// Takes over the seat of an answer that has such an extension.
    pub(super) fn take_over(response: &mut Response<Body>, seat: &mut Option<Seat>) {
        if let Some(SeatKeeper(kept)) = response.extensions_mut().remove()
            && let Some(seat) = seat.take()
        {
            // It is new, so it is empty.
            let _ = kept.set(seat);
        }
    }
}

tokio::task_local! {
    static TURN: Arc<Turn>;
}

/// Whether the server or the client is to go on with a stream of HTTP/2.
#[derive(Default)]
pub(super) struct Turn {
    /// Since when the reader is awaited, as [`milliseconds`]; 0 while it is the server's turn.
    reader_since: AtomicU64,
    unhurried: AtomicBool,
}

impl Turn {
    /// The turn of the stream that this runs in; none with HTTP/1.1.
    pub(super) fn current() -> Option<Arc<Turn>> {
        TURN.try_with(Arc::clone).ok()
    }

    /// Ready once the reader has been awaited for too long.
    fn poll_stalled(
        &self,
        timer: &mut Option<Pin<Box<Sleep>>>,
        timeouts: Timeouts,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let since = self.reader_since.load(Ordering::Relaxed);
            if since == 0 {
                return Poll::Pending;
            }
            // One timer serves many slices: it is set anew only when it goes off.
            let limit = match self.unhurried.load(Ordering::Relaxed) {
                true => timeouts.stalled_log,
                false => timeouts.stalled,
            };
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(timer.as_mut().poll(cx));
            let waited = Duration::from_millis(milliseconds().saturating_sub(since));
            match limit.checked_sub(waited) {
                Some(left) if !left.is_zero() => timer.as_mut().reset(tokio::time::Instant::now() + left),
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// Runs the streams of HTTP/2 connections as tasks of the stage.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) stage: Stage,
    pub(super) timeouts: Timeouts,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let turn = Arc::new(Turn::default());
        let work = TURN.scope(turn.clone(), stream);
        let stream = Stream { work, turn, timeouts: self.timeouts, timer: None };
        self.stage.spawn("API server stream", OnExit::Done, stream);
    }
}

pin_project! {
    /// A stream of HTTP/2 until it has been served or its reader has been awaited for too long. An async
    /// block would hold `work` twice, and every request would be moved about at twice its size.
    struct Stream<F> {
        #[pin]
        work: TaskLocalFuture<Arc<Turn>, F>,
        turn: Arc<Turn>,
        timeouts: Timeouts,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.project();
        match stream.work.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => stream.turn.poll_stalled(stream.timer, *stream.timeouts, cx),
        }
    }
}

/// The body of an answer on its way.
pub(crate) struct Reply {
    body: Body,
    /// The rest of a piece that is larger than a slice.
    rest: Bytes,
    sent: usize,
    turn: Option<Arc<Turn>>,
    unhurried: Option<Arc<AtomicUsize>>,
    /// What the request holds until then.
    _held: (InFlight, Option<Seat>),
}

impl Reply {
    pub(super) fn new(
        body: Body,
        held: (InFlight, Option<Seat>),
        unhurried: Option<Arc<AtomicUsize>>,
    ) -> Self {
        let turn = Turn::current();
        if let Some(turn) = &turn {
            turn.unhurried.store(unhurried.is_some(), Ordering::Relaxed);
            // HTTP/2 may wait for room before it asks for anything.
            turn.reader_since.store(milliseconds(), Ordering::Relaxed);
        }
        if let Some(count) = &unhurried {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Reply { body, rest: Bytes::new(), sent: 0, turn, unhurried, _held: held }
    }

    fn reader_since(&self, since: u64) {
        if let Some(turn) = &self.turn {
            turn.reader_since.store(since, Ordering::Relaxed);
        }
    }
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let reply = &mut *self;
        let mut data = std::mem::take(&mut reply.rest);
        if data.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut reply.body).poll_frame(cx) else {
                reply.reader_since(0);
                return Poll::Pending;
            };
            data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            };
        }
        if data.len() > SLICE {
            reply.rest = data.split_off(SLICE);
        }
        reply.sent = reply.sent.saturating_add(data.len());
        reply.reader_since(milliseconds());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.sent <= SMALL && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if rest > 0 {
            let exact = hint.exact();
            hint = SizeHint::new();
            if let Some(exact) = exact {
                hint.set_exact(exact + rest);
            }
        }
        hint
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(count) = &self.unhurried {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
