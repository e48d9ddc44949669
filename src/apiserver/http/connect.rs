//! Requests that are handed on to a node or to a pod: dialing its kubelet, logs, the proxies, and connections
//! that stop being HTTP.

mod backend;
pub(super) mod headers;
mod links;
pub(super) mod page;
mod proxy;
pub(super) mod tunnel;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::{ApiError, Object};
use axum::body::Body;
use bytes::Bytes;
use client::ByteStream;
use http::header::{CONTENT_LENGTH, HOST, LOCATION};
use http::uri::InvalidUri;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use supervisor::{CancellationToken, OnExit};

use super::head::Head;
use super::log;
use super::query::percent_decoded;
use super::reply::Unhurried;
use super::route::Target;
use crate::registry::{Call, Connection};
use crate::server::ApiServer;

/// First words of the kubelet's paths that run something or reach into a pod, whatever the method.
const COMMANDS: [&str; 5] = ["attach", "cri", "exec", "portforward", "run"];

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
    if connection != Connection::Log {
        let options = options(head, target, connection);
        Box::pin(server.registry.admit_connection(call, name, options)).await?;
    }
    match connection {
        Connection::Log => log::answer(server, head, call, name).await,
        Connection::Proxy if target.resource.row.plural == "nodes" => {
            node_proxy(server, head, target, call, name, body).await
        }
        Connection::Proxy => proxy::serve(server, head, target, call, name, body).await,
        Connection::Exec | Connection::Attach | Connection::PortForward => {
            tunnel::to_pod(server, head, call, connection, name).await
        }
    }
}

/// What is asked for, as webhooks are shown it.
fn options(head: &Head<'_>, target: &Target, connection: Connection) -> Value {
    let query = &head.query;
    let kind = match connection {
        Connection::Exec => "PodExecOptions",
        Connection::Attach => "PodAttachOptions",
        Connection::PortForward => "PodPortForwardOptions",
        Connection::Log => "PodLogOptions",
        Connection::Proxy if target.resource.row.plural == "nodes" => "NodeProxyOptions",
        Connection::Proxy => "PodProxyOptions",
    };
    let mut options = json!({ "kind": kind, "apiVersion": "v1" });
    match connection {
        Connection::Exec | Connection::Attach => {
            for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
                options[flag] = json!(true);
            }
            if let Some(container) = query.get("container") {
                options["container"] = json!(container);
            }
            let command = query.all("command");
            if !command.is_empty() {
                options["command"] = json!(command);
            }
        }
        Connection::PortForward => {
            let ports = query.all("ports").into_iter().filter_map(|port| port.parse::<u16>().ok());
            let ports: Vec<u16> = ports.collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        Connection::Proxy => options["path"] = json!(target.rest),
        Connection::Log => {}
    }
    options
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

/// Who is asked.
pub(super) enum Destination<'a> {
    /// The kubelet of a node.
    Kubelet(&'a Object),
    /// What runs in a pod.
    Backend(&'a backend::Backend),
}

impl Destination<'_> {
    async fn dial(&self, server: &ApiServer) -> Result<Box<dyn ByteStream>, Unanswered> {
        let node = match self {
            Destination::Kubelet(node) => node,
            Destination::Backend(backend) => return backend.dial().await,
        };
        let typed = node.typed::<Node>().map_err(|error| self.unanswered(&error))?;
        let dialled = server.registry.config.node_dialer.dial(&typed).await;
        dialled.map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &dyn std::fmt::Display) -> Unanswered {
        Unanswered(match self {
            Destination::Kubelet(node) => format!("the kubelet of node {:?}: {error}", node.name()),
            Destination::Backend(_) => error.to_string(),
        })
    }
}

/// Sends one request to a node's kubelet or to a pod and returns its answer as it comes.
pub(super) async fn ask(
    server: &Arc<ApiServer>,
    destination: &Destination<'_>,
    request: Request<Body>,
) -> Result<Answered, Unanswered> {
    let stream = destination.dial(server).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| destination.unanswered(&error))?;
    // The connection lives as long as somebody reads the answer.
    let done = CancellationToken::new();
    let guard = done.clone().drop_guard();
    server.stage.spawn_cancellable("connection of a proxy", OnExit::Done, async move {
        tokio::select! {
            result = connection.with_upgrades() => if let Err(error) = result {
                tracing::debug!(%error, "connection of a proxy ended");
            },
            () = done.cancelled() => {}
        }
    });
    let response = sender.send_request(request).await.map_err(|error| destination.unanswered(&error))?;
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

/// `/api/v1/nodes/NAME/proxy/PATH`: the kubelet's own endpoint, or another port (`NAME:9100`) of its node.
async fn node_proxy(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    target: &Target,
    call: &Call<'_>,
    name: &str,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let wanted = tunnel::wanted(head);
    // Leave to read is no leave to run commands, and a WebSocket is asked for with GET, a reading verb.
    if head.parts.method != Method::POST && (wanted.is_some() || is_command(&target.rest)?) {
        server.registry.authorize(call, "create", Some(name), None)?;
    }
    let asked = backend::Wanted::parse(name)
        .ok_or_else(|| ApiError::bad_request(format!("invalid node request {name:?}")))?;
    let node = server.registry.get(&Call::new(&call.resource, None, call.user), asked.name).await?;
    let other = backend::Backend::of_node(&node.tree().map_err(ApiError::internal)?, &asked)?;
    let (destination, host) = match &other {
        None => (Destination::Kubelet(&node), HeaderValue::from_static("kubelet")),
        Some(other) => {
            let host = HeaderValue::from_str(&other.address.to_string()).map_err(ApiError::internal)?;
            (Destination::Backend(other), host)
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = handed_on(target, &head.parts.uri)
        .map_err(|error| ApiError::bad_request(format!("path of the node proxy: {error}")))?;
    if let Some(wanted) = wanted {
        *request.headers_mut() = headers::of_upgrade(&head.parts.headers);
        request.headers_mut().insert(HOST, host);
        return tunnel::switch(server, head, &destination, request, wanted).await;
    }
    *request.headers_mut() = headers::of_request(&head.parts.headers);
    request.headers_mut().insert(HOST, host);
    let answered = ask(server, &destination, request).await?.whole();
    let mut response = passed_on(answered, &format!("/api/v1/nodes/{name}/proxy"))?;
    response.extensions_mut().insert(Unhurried);
    Ok(response)
}

/// Path and query below a proxy, as who is behind it is asked for them. The bare path of a proxy and the one
/// with a slash are the root.
fn handed_on(target: &Target, asked: &Uri) -> Result<Uri, InvalidUri> {
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", target.rest.trim_start_matches('/')).parse()
}

/// Whether a path of the kubelet's runs something. Kubelets read paths decoded, and their routers resolve
/// dots.
fn is_command(path: &str) -> Result<bool, ApiError> {
    let path = percent_decoded(path)?;
    let mut resolved: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(resolved.pop()),
            other => resolved.push(other),
        }
    }
    Ok(resolved.first().is_some_and(|first| COMMANDS.contains(&&*first.to_ascii_lowercase())))
}

/// What a client may have of a node's answer. Redirects stay below `prefix`.
fn passed_on(response: Response<Body>, prefix: &str) -> Result<Response<Body>, ApiError> {
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(body);
    *answer.status_mut() = final_status(parts.status)?;
    *answer.headers_mut() = headers::of_response(&parts.headers);
    match parts.status {
        // They have no body, and a length beside none ends a stream of HTTP/2.
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
            answer.headers_mut().remove(CONTENT_LENGTH);
            *answer.body_mut() = Body::empty();
        }
        status if status.is_redirection() => {
            if let Some(location) = parts.headers.get(LOCATION) {
                let location = headers::redirected(location, prefix).ok_or_else(|| {
                    let message = "the backend attempted to redirect this request, which is not permitted";
                    ApiError::new(502, "InternalError", message)
                })?;
                answer.headers_mut().insert(LOCATION, location);
            }
        }
        _ => {}
    }
    Ok(answer)
}

/// The code of a node's answer, if it is one: not a switch that nobody asked for, and of a known class.
pub(super) fn final_status(status: StatusCode) -> Result<StatusCode, ApiError> {
    match status.as_u16() {
        200..600 => Ok(status),
        code => Err(Unanswered(format!("invalid response: status code {code}")).into()),
    }
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
