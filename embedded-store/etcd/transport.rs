//! Connections: TLS with client certificates, few system calls, and a repair for clients that send a URL as
//! their authority.
//!
//! [`frames`] has the repair and why it is needed.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::front::{Gate, Place};

mod frames;

#[cfg(test)]
use frames::PREFACE;
pub(crate) use frames::fuzz_connection;
use frames::{Frames, PREFIX};

/// Handshakes under way at a time. A gate has its own bound, in which the oldest gives way.
const HANDSHAKES: usize = 1024;
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections ready to speak HTTP/2. A client that fails its handshake concerns nobody else.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    gate: Option<Gate>,
) -> impl Stream<Item = (Repaired<Socket>, Option<Box<dyn Place>>)> {
    let accepted = futures::stream::unfold(listener, |listener| async move {
        let socket = listener.accept().await;
        Some((socket, listener))
    });
    accepted
        .map(move |socket| {
            let (tls, gate) = (tls.clone(), gate.clone());
            async move {
                let (socket, address) = match socket {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        // Out of descriptors, most likely: give others time to close theirs.
                        tracing::warn!("cannot accept a connection of the etcd API: {e}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return None;
                    }
                };
                let place = match gate {
                    Some(gate) => Some(gate(address.ip())?),
                    None => None,
                };
                let _ = socket.set_nodelay(true);
                let Some(tls) = tls else { return Some((Repaired::new(Socket::Plain(socket)), place)) };
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket));
                let cut = place.as_ref().map_or_else(|| pending().boxed(), |place| place.cut());
                let done = tokio::select! {
                    done = handshake => done,
                    () = cut => return None,
                };
                match done {
                    Ok(Ok(_)) if place.as_ref().is_some_and(|place| !place.identified()) => None,
                    Ok(Ok(stream)) => Some((Repaired::new(Socket::Tls(Box::new(stream))), place)),
                    Ok(Err(e)) => {
                        tracing::debug!("handshake on the etcd API: {e}");
                        None
                    }
                    Err(_) => None,
                }
            }
        })
        .buffer_unordered(HANDSHAKES)
        .filter_map(std::future::ready)
}

/// Serves a connection as long as it has its place.
pub(super) async fn while_placed(place: Option<Box<dyn Place>>, served: impl Future<Output = ()>) {
    let Some(place) = place else { return served.await };
    tokio::select! {
        () = served => {}
        () = place.cut() => {}
    }
}

pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// A connection whose incoming headers are repaired and whose outgoing frames are gathered.
pub(crate) struct Repaired<S> {
    inner: S,
    /// Input that is not passed on yet: half a header block.
    buffer: BytesMut,
    frames: Frames,
    outgoing: Outgoing,
}

impl<S> Repaired<S> {
    pub(crate) fn new(inner: S) -> Self {
        Repaired { inner, buffer: BytesMut::new(), frames: Frames::new(), outgoing: Outgoing::default() }
    }
}

impl<S: AsyncRead + Unpin> Repaired<S> {
    /// Waits for the first bytes: whether the client speaks HTTP/2.
    pub(crate) async fn speaks_http2(&mut self) -> io::Result<bool> {
        while self.buffer.len() < PREFIX.len() && PREFIX.starts_with(&self.buffer) {
            let read = poll_fn(|cx| read_into(&mut self.inner, &mut self.buffer, cx)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.frames.advance(&mut self.buffer);
        Ok(self.buffer.starts_with(PREFIX))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Repaired<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            // As a rule whole frames come in, and are looked at where they are.
            let start = out.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
            let read = &mut out.filled_mut()[start..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.frames.advance(read);
            let passed = this.frames.pass(read.len());
            this.buffer.extend_from_slice(&read[passed..]);
            out.set_filled(start + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        while this.frames.passed == 0 {
            if ready!(read_into(&mut this.inner, &mut this.buffer, cx))? == 0 {
                // Half a frame and no more to come: let the library say what is wrong with it.
                this.frames.passed = this.buffer.len();
                break;
            }
            this.frames.advance(&mut this.buffer);
        }
        let count = this.frames.pass(out.remaining().min(this.buffer.len()));
        out.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Bytes that are read at a time.
const READ: usize = 16 * 1024;

/// Appends what can be read now to `buffer`.
fn read_into<S: AsyncRead + Unpin>(
    inner: &mut S,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut chunk = [MaybeUninit::uninit(); READ];
    let mut read = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(inner).poll_read(cx, &mut read))?;
    buffer.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Most output that is gathered.
const GATHERED: usize = 64 * 1024;
/// Room that a quiet connection keeps.
const KEPT: usize = 4 * 1024;

/// Output on its way to the socket.
///
/// The HTTP/2 library flushes after every data frame that is not tiny, which would make a system call, a
/// segment and a wake-up of the client of each message to each of many watches. It writes such a frame in two
/// parts, the head and the payload; a flush after that is put off until the connection has had its turn.
/// Every other flush is carried out.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// How many of them the socket has taken.
    sent: usize,
    /// The last write was a frame in two parts.
    parted: bool,
}

impl Outgoing {
    /// Writes what has been gathered to the socket.
    fn write<S: AsyncWrite + Unpin>(&mut self, inner: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let written = ready!(Pin::new(&mut *inner).poll_write(cx, &self.bytes[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Repaired<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Repaired { inner, outgoing, .. } = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if outgoing.bytes.len() + length > GATHERED {
            ready!(outgoing.write(inner, cx))?;
        }
        outgoing.parted = bufs.iter().filter(|buf| !buf.is_empty()).count() > 1;
        if length > GATHERED {
            return Pin::new(inner).poll_write_vectored(cx, bufs);
        }
        bufs.iter().for_each(|buf| outgoing.bytes.extend_from_slice(buf));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Repaired { inner, outgoing, .. } = self.get_mut();
        if std::mem::take(&mut outgoing.parted) {
            // The connection has another turn, at the end of which it flushes.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(outgoing.write(inner, cx))?;
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Repaired { inner, outgoing, .. } = self.get_mut();
        ready!(outgoing.write(inner, cx))?;
        Pin::new(inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
