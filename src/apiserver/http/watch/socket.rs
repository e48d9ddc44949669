//! A watch as messages of a WebSocket: how browsers and older libraries follow one. A message is an event,
//! text where it is JSON and binary where it is protobuf, which needs no length in front then. What the
//! client says is read and dropped.

use std::sync::Arc;

use api::{ApiError, protobuf};
use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use client::streams::websocket::{self, Message};
use futures::stream::SplitSink;
use futures::{Sink, SinkExt};
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;

use super::super::connect::page::{self, Socket};
use super::super::head::Head;
use crate::server::ApiServer;

/// Answers with a switch to a WebSocket that carries the events of an answer.
pub(in super::super) fn over_socket(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    answer: Response<Body>,
) -> Result<Response<Body>, ApiError> {
    let media = answer.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let framing = match media.starts_with(protobuf::MEDIA_TYPE) {
        true => Framing::Lengths,
        false => Framing::Lines { searched: 0 },
    };
    let body = answer.into_body();
    page::switched(server, head, "watch over a WebSocket", None, move |socket| async move {
        let sending = async |sink: SplitSink<Socket, Message>| send(sink, body, framing).await;
        page::until_gone(socket, sending).await;
    })
}

async fn send(mut sink: impl Sink<Message> + Unpin, mut body: Body, framing: Framing) {
    let is_text = matches!(framing, Framing::Lines { .. });
    let mut events = Events { buffer: BytesMut::new(), framing };
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        events.buffer.extend_from_slice(&data);
        while let Some(event) = events.next() {
            for message in websocket::message(event, is_text) {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = sink.send(websocket::farewell()).await;
}

/// What tells events apart.
enum Framing {
    /// Each ends with its line. Up to `searched` there is no line end.
    Lines { searched: usize },
    /// Each has its length in front, as four big-endian bytes.
    Lengths,
}

/// The events in the bytes of a watch, which are cut anywhere.
struct Events {
    buffer: BytesMut,
    framing: Framing,
}

impl Events {
    /// The next event that is complete.
    fn next(&mut self) -> Option<Bytes> {
        let length = match &mut self.framing {
            Framing::Lines { searched } => {
                let rest = &self.buffer[*searched..];
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    *searched = self.buffer.len();
                    return None;
                };
                std::mem::take(searched) + end + 1
            }
            Framing::Lengths => {
                let length = u32::from_be_bytes(*self.buffer.first_chunk()?);
                let length = usize::try_from(length).ok()?;
                if self.buffer.len() - 4 < length {
                    return None;
                }
                self.buffer.advance(4);
                length
            }
        };
        Some(self.buffer.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(framing: Framing, bytes: &[u8]) -> Vec<Bytes> {
        let mut events = Events { buffer: BytesMut::new(), framing };
        let mut found = Vec::new();
        // Cut after every byte.
        for byte in bytes {
            events.buffer.extend_from_slice(&[*byte]);
            found.extend(std::iter::from_fn(|| events.next()));
        }
        assert!(events.buffer.is_empty());
        found
    }

    #[test]
    fn events_are_told_apart_wherever_they_are_cut() {
        assert_eq!(events(Framing::Lines { searched: 0 }, b"{\"a\":1}\n{}\n"), ["{\"a\":1}\n", "{}\n"]);
        let mut frames = protobuf::encode_watch_event("ADDED", b"one");
        let length = frames.len();
        frames.extend(protobuf::encode_watch_event("DELETED", b"another"));
        let found = events(Framing::Lengths, &frames);
        assert_eq!(found, [frames[4..length].to_vec(), frames[length + 4..].to_vec()]);
    }
}
