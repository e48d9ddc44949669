//! WebSockets: the handshake's arithmetic, the frames' limits, and one that carries bytes as if it were a
//! socket.
//!
//! Frames are `tungstenite`'s matter; the handshakes are HTTP, which the callers' HTTP does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream};
use http::HeaderMap;
use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

pub use tokio_tungstenite::tungstenite::Error;
pub use tokio_tungstenite::tungstenite::protocol::Message;

#[cfg(test)]
mod tests;

/// The largest message that is taken. It is whole in memory before any of it goes on, for every stream of a
/// node. Go's clients and kubelets send pieces of 32 KiB, browsers' and Node's what they read at once;
/// upstream's limit of 32 MiB is none.
const LARGEST_MESSAGE: usize = 1024 * 1024;
/// How long the rest is still read, and dropped, from a client that has been refused: who reads nothing more
/// resets the connection, and the client does not hear why.
const LINGER: Duration = Duration::from_secs(5);
const BUFFER: usize = 64 * 1024;
/// RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The connection of messages on a stream that has switched.
pub type WebSocket<S> = WebSocketStream<S>;

/// Whether a request asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The sub-protocols that a request offers, in its order.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',').map(str::trim))
}

/// The value of `Sec-WebSocket-Accept` that belongs to a key.
pub fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID.as_bytes()].concat()))
}

/// A key for `Sec-WebSocket-Key`.
pub fn new_key() -> String {
    STANDARD.encode(rand::random::<[u8; 16]>())
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * BUFFER)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE))
}

/// The server's end of a WebSocket.
pub async fn accepted<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocket<S> {
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await
}

/// The client's end of a WebSocket.
pub async fn connected<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocket<S> {
    WebSocketStream::from_raw_socket(stream, Role::Client, Some(config())).await
}

/// A message of any length: one that is larger than what a connection holds back goes in fragments.
pub fn message(mut content: Bytes, is_text: bool) -> impl Iterator<Item = Message> {
    let mut kind = Some(OpCode::Data(if is_text { Data::Text } else { Data::Binary }));
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let part = content.split_to(content.len().min(BUFFER));
        is_done = content.is_empty();
        let code = kind.take().unwrap_or(OpCode::Data(Data::Continue));
        Some(Message::Frame(Frame::message(part, code, is_done)))
    })
}

/// The end of a connection that went well. Go's clients take one without a code for a failure.
pub fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))
}

/// Whether a message was larger than is taken.
pub fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Capacity(_))
}

/// Ends a connection whose client sent a message that is too large: 1009, as RFC 6455 has it.
pub async fn refuse_too_large<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocket<S>) {
    let frame = CloseFrame { code: CloseCode::Size, reason: "message too big".into() };
    let refusing = async {
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        let mut rest = vec![0; BUFFER];
        while socket.get_mut().read(&mut rest).await.is_ok_and(|length| length > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, refusing).await;
}

/// A WebSocket whose binary messages, one after the other, are what the other end sent.
pub struct Tunnel<S> {
    socket: WebSocket<S>,
    unread: Bytes,
    is_closing: bool,
}

impl<S> Tunnel<S> {
    pub fn new(socket: WebSocket<S>) -> Self {
        Tunnel { socket, unread: Bytes::new(), is_closing: false }
    }

    /// The socket; what has not been read of its last message is lost.
    pub fn into_socket(self) -> WebSocket<S> {
        self.socket
    }
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let error = "a tunnel carries binary messages, not text";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(failed)?;
        let length = bytes.len().min(BUFFER);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket).start_send(message).map_err(failed)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(failed)?;
            match Pin::new(&mut self.socket).start_send(farewell()) {
                Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {}
                Err(error) => return Poll::Ready(Err(failed(error))),
            }
            self.is_closing = true;
        }
        match ready!(Pin::new(&mut self.socket).poll_flush(context)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}
