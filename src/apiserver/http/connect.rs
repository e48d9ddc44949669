//! Requests that are handed on to a node: dialing its kubelet, logs, the node proxy, and connections that stop being HTTP.
//!
//! Absent: the proxies of pods and services, which are no kubelet's.

pub(super) mod tunnel;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::{ApiError, Object};
use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use supervisor::{CancellationToken, OnExit};

use super::head::Head;
use super::log;
use super::reply::Unhurried;
use super::route::Target;
use crate::registry::{Call, Connection};
use crate::server::ApiServer;

/// Headers that belong to one hop, and the caller's credentials, which are no business of the node's.
const NOT_FORWARDED: [HeaderName; 5] = [HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING, AUTHORIZATION];

/// Serves a connection subresource.
pub(super) async fn serve(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    connection: Connection,
    name: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    match connection {
        Connection::Log => log::answer(server, head, call, name).await,
        Connection::Proxy => proxy(server, head, target, call, name, body).await,
        Connection::Exec | Connection::Attach | Connection::PortForward => {
            tunnel::to_pod(server, head, call, connection, name).await
        }
    }
}

/// A kubelet's answer, and what keeps the connection to it.
pub(super) struct Answered {
    response: Response<Incoming>,
    guard: ConnectionGuard,
}

impl Answered {
    /// The answer as it comes; the connection ends with it.
    pub(super) fn whole(self) -> Response<Body> {
        let Answered { response, guard } = self;
        response.map(|body| guard.keep(body))
    }
}

/// Ends a connection to a kubelet when it is dropped.
pub(super) struct ConnectionGuard(tokio_util::sync::DropGuard);

impl ConnectionGuard {
    fn keep(self, body: Incoming) -> Body {
        Body::new(Guarded { body, _guard: self.0 })
    }
}

/// A kubelet that gave no answer, and why.
#[derive(Debug)]
pub(super) struct Unanswered(String);

impl From<Unanswered> for ApiError {
    fn from(Unanswered(error): Unanswered) -> ApiError {
        ApiError::new(502, "InternalError", format!("error trying to reach service: {error}"))
    }
}

/// Sends one request to a node's kubelet and returns its answer as it comes.
pub(super) async fn ask(
    server: &Arc<ApiServer>,
    node: &Object,
    request: Request<Body>,
) -> Result<Answered, Unanswered> {
    let name = node.name();
    let unreachable =
        |error: &dyn std::fmt::Display| Unanswered(format!("the kubelet of node {name:?}: {error}"));
    let typed = node.typed::<Node>().map_err(|error| unreachable(&error))?;
    let stream =
        server.registry.config.node_dialer.dial(&typed).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    // The connection lives as long as somebody reads the answer.
    let done = CancellationToken::new();
    let guard = done.clone().drop_guard();
    server.stage.spawn_cancellable("connection to a kubelet", OnExit::Done, async move {
        tokio::select! {
            result = connection.with_upgrades() => if let Err(error) = result {
                tracing::debug!(%error, "connection to a kubelet ended");
            },
            () = done.cancelled() => {}
        }
    });
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    Ok(Answered { response, guard: ConnectionGuard(guard) })
}

/// A body that ends its connection when it is dropped.
struct Guarded {
    body: Incoming,
    _guard: tokio_util::sync::DropGuard,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

/// `/api/v1/nodes/NAME/proxy/PATH`: the kubelet's own endpoint.
pub(super) async fn proxy(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    name: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    if target.resource.row.plural != "nodes" {
        let message = format!("the server does not implement {}/proxy", target.resource.row.plural);
        return Err(ApiError::new(501, "NotImplemented", message));
    }
    let node = server.registry.get(&Call::new(&call.resource, None, call.user), name).await?;
    let query = head.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = format!("/{}{query}", target.rest)
        .parse()
        .map_err(|error| ApiError::bad_request(format!("path of the node proxy: {error}")))?;
    *request.headers_mut() = forwarded(&head.parts.headers);
    let mut response = tunnel::switch(server, head, &node, request, tunnel::wanted(head)).await?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove(TRANSFER_ENCODING);
    }
    response.extensions_mut().insert(Unhurried);
    Ok(response)
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    headers
}

/// A GET for a kubelet.
pub(super) fn get(path: &str) -> Result<Request<Body>, ApiError> {
    Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(HOST, "kubelet")
        .body(Body::empty())
        .map_err(ApiError::internal)
}
