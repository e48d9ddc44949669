//! Gathers what an HTTP/2 connection writes, so that many frames leave as one.
//!
//! The `h2` crate flushes after every DATA frame. Over TLS that makes a record and a system call of each:
//! sixty watchers of one connection would cost sixty of both for one change, and a frame of 16 KiB, with its
//! header of 9 bytes, a second record for its end. Here a flush is only noted. What was written stays in
//! memory until it fills [`ROOM`], or until everything that is ready to run has had its turn once: other
//! streams of the connection most often have something to add. On an idle server that turn comes at once, so
//! a single answer is not delayed.
//!
//! Absent: HTTP/1.1, which writes one answer at a time and needs none of this.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as `rustls` encrypts before it wants to write.
const ROOM: usize = 64 * 1024;
/// An empty buffer of at most this size is kept; thousands of idle connections should not hold more.
const KEPT: usize = 4 * 1024;

/// A stream whose writes are gathered. Clones share it: one is given to the connection, one to [`drive`].
/// Both are used by the same task only, so the lock is never waited for.
pub(super) struct Gathered<S>(Arc<Mutex<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of `waiting` has been written.
    written: usize,
    /// Bytes that came in.
    received: usize,
}

/// How a gathered connection ended badly.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("HTTP/2")]
    Http(#[from] hyper::Error),
    #[error("writing")]
    Write(#[from] io::Error),
}

/// Runs a connection over a gathered stream to its end. Dropping the future loses nothing: another call goes
/// on.
pub(super) async fn drive<C, S>(mut connection: Pin<&mut C>, stream: &Gathered<S>) -> Result<(), Broken>
where
    C: Future<Output = hyper::Result<()>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut yielded = false;
    poll_fn(|cx| {
        if let Poll::Ready(done) = connection.as_mut().poll(cx) {
            // The peer may still want to know why, but is not waited for.
            let _ = stream.0.lock().poll_send(cx);
            return Poll::Ready(done.map_err(Broken::Http));
        }
        let mut gathering = stream.0.lock();
        if gathering.waiting.is_empty() {
            yielded = false;
            return Poll::Pending;
        }
        if !std::mem::replace(&mut yielded, true) {
            // A task that wakes itself goes to the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(gathering.poll_send(cx))?;
        yielded = false;
        Poll::Pending
    })
    .await
}

impl<S> Gathered<S> {
    pub(super) fn new(stream: S) -> Self {
        Gathered(Arc::new(Mutex::new(Gathering { stream, waiting: Vec::new(), written: 0, received: 0 })))
    }

    /// How many bytes have come in.
    pub(super) fn received(&self) -> usize {
        self.0.lock().received
    }
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Gathered(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    /// Ready once nothing is waiting.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.written = 0;
        if self.waiting.capacity() > KEPT {
            self.waiting = Vec::new();
        } else {
            self.waiting.clear();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= ROOM || self.written > 0 {
            ready!(self.poll_send(cx))?;
        }
        let before = self.waiting.len();
        for part in parts {
            let taken = part.len().min(ROOM - self.waiting.len());
            self.waiting.extend_from_slice(&part[..taken]);
        }
        Poll::Ready(Ok(self.waiting.len() - before))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gathering = self.0.lock();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut gathering.stream).poll_read(cx, buffer);
        gathering.received = gathering.received.saturating_add(buffer.filled().len() - before);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_gather(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_gather(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only [`drive`] knows when nothing more is to come.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.lock();
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
