//! Connections that stop being HTTP: `exec`, `attach`, `portforward` and upgrades through the node proxy.
//!
//! The client's upgrade is handed on to the node as it came, whatever protocol it names (SPDY, WebSocket); if the node
//! switches, both connections are joined until one of them ends. Nothing in between is looked at. A tunnel keeps the
//! place of the connection that it was, and ends with the port.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::kinds::NODE;
use api::{ApiError, Object};
use axum::body::Body;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use supervisor::OnExit;

use super::super::head::Head;
use super::super::query::encoded;
use super::super::{log, peer::Peer};
use super::{Answered, NOT_FORWARDED, Unanswered, ask};
use crate::registry::{Call, Connection};
use crate::server::ApiServer;

/// What the client wants to switch to, and its end of the connection once it has.
pub(super) struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// The upgrade that a request asks for.
pub(super) fn wanted(head: &Head<'_>) -> Option<Wanted> {
    let protocol = head.parts.headers.get(UPGRADE)?.clone();
    Some(Wanted { protocol, client: head.parts.extensions.get::<OnUpgrade>()?.clone() })
}

/// `pods/exec`, `attach`, `portforward`: the node's kubelet is at the other end.
pub(in super::super) async fn to_pod(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    call: &Call<'_>,
    connection: Connection,
    name: &str,
) -> Result<Response<Body>, ApiError> {
    // Who may only read must not run commands: WebSockets are asked for with GET, which is a reading verb.
    if head.reads() {
        server.registry.authorize(call, "create", Some(name), None)?;
    }
    let whole = Call::new(&call.resource, call.namespace, call.user);
    let object = server.registry.get(&whole, name).await?;
    let pod = object.typed::<Pod>().map_err(ApiError::internal)?;
    let (namespace, query) = (call.namespace.unwrap_or(""), &head.query);
    let (path, query) = match connection {
        Connection::PortForward => {
            (format!("/portForward/{namespace}/{name}"), parameters(query, &[("ports", "port")]))
        }
        _ => {
            let verb = if connection == Connection::Attach { "attach" } else { "exec" };
            let container = log::container(&pod, name, query.get("container"))?;
            let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            let mut parts: Vec<String> = flags
                .into_iter()
                .filter(|(given, _)| query.flag(given))
                .map(|(_, kubelets)| format!("{kubelets}=1"))
                .collect();
            parts.extend(query.all("command").iter().map(|word| format!("command={}", encoded(word))));
            (format!("/{verb}/{namespace}/{name}/{container}"), parts.join("&"))
        }
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let node =
        server.registry.caches.get(&NODE, None, node).ok_or_else(|| ApiError::not_found(&NODE, node))?;
    let Some(wanted) = wanted(head) else { return Err(ApiError::bad_request("Upgrade request required")) };
    let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = uri.parse().map_err(ApiError::internal)?;
    *request.headers_mut() = head.parts.headers.clone();
    NOT_FORWARDED.iter().for_each(|name| drop(request.headers_mut().remove(name)));
    switch(server, head, &node, request, Some(wanted)).await
}

/// Parameters under the names that the kubelet has for them.
fn parameters(query: &super::super::query::Query, names: &[(&str, &str)]) -> String {
    let all = names.iter().flat_map(|(given, kubelets)| {
        query.all(given).into_iter().map(move |value| format!("{kubelets}={}", encoded(value)))
    });
    all.collect::<Vec<_>>().join("&")
}

/// Sends a request to a node; joins the connections if the client asked for that and the node agrees.
pub(super) async fn switch(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    node: &Object,
    mut request: Request<Body>,
    wanted: Option<Wanted>,
) -> Result<Response<Body>, ApiError> {
    request.headers_mut().insert(HOST, HeaderValue::from_static("kubelet"));
    if let Some(wanted) = &wanted {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, wanted.protocol.clone());
    }
    let answered = ask(server, node, request).await;
    let Answered { mut response, guard } = match answered {
        // Upstream's words where the client wants to switch.
        Err(Unanswered(error)) if wanted.is_some() => {
            return Err(ApiError::new(500, "", format!("error dialing backend: {error}")));
        }
        other => other?,
    };
    let Some(wanted) = wanted.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) else {
        return Ok(response.map(|body| guard.keep(body)));
    };
    let kubelet = hyper::upgrade::on(&mut response);
    let peer = head.peer.clone();
    server.stage.spawn_cancellable("tunnel to a kubelet", OnExit::Done, async move {
        // The connection to the node has to live until it is ours.
        let joined = tokio::try_join!(wanted.client, kubelet);
        drop(guard);
        match joined {
            Ok((client, kubelet)) => join(&peer, client, kubelet).await,
            Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
        }
    });
    let (parts, _) = response.into_parts();
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// Counts a tunnel among what takes its time on a connection.
struct Open(Arc<Peer>);

impl Open {
    fn new(peer: &Arc<Peer>) -> Self {
        peer.vitals.unhurried.fetch_add(1, Ordering::Relaxed);
        Open(peer.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.vitals.unhurried.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries bytes both ways until one side ends, the port closes or the connection has to give way.
async fn join(peer: &Arc<Peer>, client: Upgraded, kubelet: Upgraded) {
    let _open = Open::new(peer);
    let cut = async {
        match &peer.admission {
            Some(admission) => admission.cut().await,
            None => std::future::pending().await,
        }
    };
    let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
    tokio::select! {
        done = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => if let Err(error) = done {
            tracing::debug!(%error, "a tunnel ended");
        },
        () = peer.stopping.cancelled() => {}
        () = cut => {}
    }
}
