//! A body as messages of a WebSocket: how browsers and upstream's own clients follow a log.
//!
//! Messages are binary, or text in base64 if the client offers nothing else. What the client says is read and
//! dropped; when it goes, so does the connection to the node.

use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::streams::websocket::{self, Message, WebSocket};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use supervisor::OnExit;

use super::super::head::Head;
use super::super::reply::SeatKeeper;
use super::tunnel::{self, Wanted};
use crate::server::ApiServer;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// Answers with a switch to a WebSocket that carries the body.
pub(in super::super) fn over_socket(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let offered = websocket::offered(&head.parts.headers).find(|one| matches!(*one, BINARY | BASE64));
    let is_base64 = offered == Some(BASE64);
    let protocol = offered.map(|_| if is_base64 { BASE64 } else { BINARY });
    switched(server, head, "log over a WebSocket", protocol, move |socket| carry(socket, body, is_base64))
}

/// The server's end of a client's WebSocket.
pub(in super::super) type Socket = WebSocket<TokioIo<Upgraded>>;

/// Answers with a switch to a WebSocket; `carry` works with it for as long as the client may go on.
pub(in super::super) fn switched<F: Future<Output = ()> + Send + 'static>(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    what: &'static str,
    protocol: Option<&'static str>,
    carry: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let missing = || ApiError::bad_request("websocket: the handshake is not complete");
    let Wanted { client, .. } = tunnel::wanted(head).ok_or_else(missing)?;
    let key = head.parts.headers.get(SEC_WEBSOCKET_KEY).ok_or_else(missing)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&websocket::accept_key(key.as_bytes()));
    out.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(ApiError::internal)?);
    if let Some(protocol) = protocol {
        out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let seat = SeatKeeper::default();
    let (held, peer) = (seat.clone(), head.peer.clone());
    server.stage.spawn_cancellable(what, OnExit::Done, async move {
        let _held = held;
        match client.await {
            Ok(client) => {
                let socket = websocket::accepted(TokioIo::new(client)).await;
                tunnel::while_allowed(&peer, carry(socket)).await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket did not come about"),
        }
    });
    response.extensions_mut().insert(seat);
    Ok(response)
}

async fn carry(socket: Socket, body: Body, is_base64: bool) {
    let sending = async |mut sink: SplitSink<Socket, Message>| {
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            let message =
                if is_base64 { Message::Text(STANDARD.encode(&data).into()) } else { Message::Binary(data) };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(websocket::farewell()).await;
    };
    until_gone(socket, sending).await;
}

/// Sends until that is done or the client goes. What it says is read and dropped.
pub(in super::super) async fn until_gone(socket: Socket, send: impl AsyncFnOnce(SplitSink<Socket, Message>)) {
    let (sink, mut source) = socket.split();
    let gone = async {
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    tokio::select! {
        () = send(sink) => {}
        () = gone => {}
    }
}
